//! Steps that read and write.

use std::time::{Duration, Instant};

use raftkv::kv::ReadPath;

use super::notation::{Ask, Failing, Path, ReadFrom};
use super::outcome::{Observed, Unmet, ms};
use super::runner::Runner;
use crate::client::{Client, ClientError, Read};
use crate::ops::store;
use crate::text::words::quote;

impl Runner<'_> {
    pub(super) async fn set(&mut self, ask: &Ask) -> Observed {
        let mut client = self.take_client(ask).await?;
        let mut told = Vec::new();
        for (name, value) in &ask.values {
            let key = format!("{}{name}", self.key_prefix);
            self.touched.insert(key.clone());
            let started = Instant::now();
            let outcome = client.set(&key, value).await;
            let took = started.elapsed();
            if let Ok(reply) = &outcome {
                self.written.insert(key, value.clone());
                told.push(format!("index {} in {} ms", reply.applied_index, ms(took)));
            }
            if let Some(error) = judge(ask, name, outcome.err(), "acknowledged", took)? {
                told.push(error);
            }
        }
        self.give_back(ask, client);
        Ok(told.join(", "))
    }

    pub(super) async fn get(&mut self, ask: &Ask) -> Observed {
        let mut client = self.take_client(ask).await?;
        let read = match ask.read {
            None | Some(ReadFrom::Lease) => Read::Lease,
            Some(ReadFrom::Quorum) => Read::Quorum,
        };
        let mut told = Vec::new();
        for (name, value) in &ask.values {
            let key = format!("{}{name}", self.key_prefix);
            let started = Instant::now();
            let outcome = client.get(&key, read).await;
            let took = started.elapsed();
            if let Ok(reply) = &outcome {
                check_value(name, value, &reply.value)?;
                check_path(name, ask.path, reply.path())?;
                told.push(format!(
                    "{} in {:.1} ms",
                    quote(value),
                    took.as_secs_f64() * 1000.0
                ));
            }
            if let Some(error) = judge(ask, name, outcome.err(), "answered", took)? {
                told.push(error);
            }
        }
        self.give_back(ask, client);
        Ok(told.join(", "))
    }

    /// The scenario's own client, or one of its own for a step that asks certain nodes only.
    async fn take_client(&mut self, ask: &Ask) -> Result<Client, Unmet> {
        let members = store::members(&self.context);
        let client = match &ask.to {
            Some(nodes) => {
                let ids = self.resolve(nodes).await?;
                let asked: Vec<_> = members
                    .into_iter()
                    .filter(|m| ids.contains(&m.id))
                    .collect();
                Client::new(&asked)
            }
            None => std::mem::replace(&mut self.client, Client::new(&members)),
        };
        Ok(client.with_timeout(self.limit(ask.within)))
    }

    fn give_back(&mut self, ask: &Ask, client: Client) {
        if ask.to.is_none() {
            self.client = client;
        }
    }
}

/// Compares how an operation ended with how it was to end. Gives what an expected failure said.
fn judge(
    ask: &Ask,
    name: &str,
    error: Option<ClientError>,
    done: &str,
    took: Duration,
) -> Result<Option<String>, Unmet> {
    let expected = match ask.fails {
        None => format!("{name} {done}"),
        Some(Failing::NoLeader) => format!("{name} refused for want of a leader"),
        Some(Failing::OutcomeUnknown) => format!("{name}: outcome unknown"),
    };
    let fails_as_expected = match (&error, ask.fails) {
        (None, None) => return Ok(None),
        (Some(ClientError::NoLeader { .. }), Some(Failing::NoLeader)) => true,
        (Some(ClientError::OutcomeUnknown { .. }), Some(Failing::OutcomeUnknown)) => true,
        _ => false,
    };
    let seen = match &error {
        Some(error) => error.to_string(),
        None => format!("{done} in {} ms", ms(took)),
    };
    if fails_as_expected {
        let first_line = seen.lines().next().unwrap_or_default();
        return Ok(Some(format!("{first_line:?}")));
    }
    Err(Unmet::expected(expected, seen))
}

fn check_value(name: &str, expected: &str, seen: &str) -> Result<(), Unmet> {
    if expected == seen {
        return Ok(());
    }
    Err(Unmet::expected(
        format!("{name} = {}", quote(expected)),
        quote(seen),
    ))
}

fn check_path(name: &str, expected: Option<Path>, seen: ReadPath) -> Result<(), Unmet> {
    let wanted = match expected {
        None => return Ok(()),
        Some(Path::Lease) => ReadPath::Lease,
        Some(Path::Inherited) => ReadPath::Inherited,
    };
    if wanted == seen {
        return Ok(());
    }
    let expected = format!("{name} answered by {}", wanted.as_str_name());
    Err(Unmet::expected(expected, seen.as_str_name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(fails: Option<Failing>) -> Ask {
        Ask {
            values: [("k".to_owned(), "v".to_owned())].into(),
            to: None,
            within: None,
            fails,
            read: None,
            path: None,
        }
    }

    fn no_leader() -> ClientError {
        ClientError::NoLeader {
            timeout: Duration::from_secs(1),
            tried: Default::default(),
        }
    }

    /// A success where a failure was due is as wrong as the opposite, and so is another failure.
    #[test]
    fn success_and_failure_are_judged_alike() {
        let judged = |fails, error| judge(&ask(fails), "k", error, "acknowledged", Duration::ZERO);
        assert_eq!(judged(None, None).unwrap(), None);
        let said = judged(Some(Failing::NoLeader), Some(no_leader()))
            .unwrap()
            .unwrap();
        assert_eq!(said, "\"no leader answered within 1 s\"");
        assert!(judged(None, Some(no_leader())).is_err());
        assert!(judged(Some(Failing::NoLeader), None).is_err());
        assert!(judged(Some(Failing::OutcomeUnknown), Some(no_leader())).is_err());
    }

    /// The value and the way it was read are both compared.
    #[test]
    fn values_and_paths_are_compared() {
        assert!(check_value("k", "v", "v").is_ok());
        assert_eq!(
            check_value("k", "v", "").unwrap_err(),
            Unmet::expected("k = v", "\"\"")
        );
        assert!(check_path("k", Some(Path::Lease), ReadPath::Lease).is_ok());
        assert!(check_path("k", None, ReadPath::Quorum).is_ok());
        assert!(check_path("k", Some(Path::Lease), ReadPath::Inherited).is_err());
    }
}
