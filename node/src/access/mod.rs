//! Who may do what: the names in certificates, the roles that they give, and the one table of calls.
//!
//! A certificate names a node of a cluster, or roles of a client in it, never an address:
//!
//! ```text
//! raftkv://demo/node/3
//! raftkv://demo/role/writer?prefix=app/
//! ```
//!
//! The word behind `raftkv://` is the cluster's id or its name. What a name says beyond that which
//! this version knows makes the whole certificate count for nothing, and a call that stands in no row
//! of the table is refused: what is not allowed in so many words is not allowed.
//!
//! Deliberately absent: users, passwords, and anything that is asked while a call waits.

mod name;
mod table;

pub use name::{ClusterNames, NameError, Subject, node_uri, role_uri, subject};
pub use table::{Need, TABLE, need};

use std::fmt;
use std::sync::Arc;

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads keys.
    Reader,
    /// Reads and writes keys.
    Writer,
    /// Looks after the nodes; reads and writes no keys.
    Operator,
    /// All of it.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 4] = [Role::Reader, Role::Writer, Role::Operator, Role::Admin];

    /// As it stands in certificates.
    pub fn name(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Writer => "writer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// Whether it may be for a part of the keys.
    pub fn takes_prefix(self) -> bool {
        matches!(self, Role::Reader | Role::Writer)
    }

    /// Whether it is enough for what a call needs.
    fn is_enough_for(self, need: Need) -> bool {
        match need {
            Need::AnyRole => true,
            Need::Read => matches!(self, Role::Reader | Role::Writer | Role::Admin),
            Need::Write => matches!(self, Role::Writer | Role::Admin),
            Need::Operate => matches!(self, Role::Operator | Role::Admin),
            Need::Administer => self == Role::Admin,
        }
    }
}

/// A role, and the keys that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// It is for keys that begin with this alone; empty: for all.
    pub prefix: String,
}

impl fmt::Display for Grant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.prefix {
            "" => formatter.write_str(self.role.name()),
            prefix => write!(formatter, "{} for '{prefix}'", self.role.name()),
        }
    }
}

/// What the other end of a connection may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who it is, as its certificate says; for people.
    pub who: Arc<str>,
    /// `None`: it came without TLS, to a node that asks for none.
    grants: Option<Arc<[Grant]>>,
}

/// A call that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// What the call needs.
    pub missing: &'static str,
    /// For the caller.
    pub message: String,
}

impl Access {
    /// Without TLS: whoever can connect may do everything.
    pub fn open() -> Self {
        Access {
            who: "anybody".into(),
            grants: None,
        }
    }

    /// By certificate.
    pub fn granted(who: &str, grants: impl Into<Arc<[Grant]>>) -> Self {
        Access {
            who: who.into(),
            grants: Some(grants.into()),
        }
    }

    /// Whether a call may begin; which keys it may touch is asked for each of its operations.
    pub fn may_call(&self, path: &str) -> Result<(), Denied> {
        let Some(grants) = &self.grants else {
            return Ok(());
        };
        let Some(need) = need(path) else {
            let what = format!("'{path}' stands in no row of the table of roles");
            return Err(self.denied("a version that knows the call", &what));
        };
        match grants.iter().any(|grant| grant.role.is_enough_for(need)) {
            true => Ok(()),
            false => Err(self.denied(need.role(), &format!("the role '{}'", need.role()))),
        }
    }

    /// Whether it may touch a key, or all keys that begin with `key`, whatever way the request came:
    /// `path` is the call that the operation has when it comes by itself.
    pub fn may_touch(&self, path: &str, key: &str) -> Result<(), Denied> {
        self.may_call(path)?;
        let (Some(grants), Some(need)) = (&self.grants, need(path)) else {
            return Ok(());
        };
        let fits = |grant: &Grant| {
            grant.role.is_enough_for(need) && key.as_bytes().starts_with(grant.prefix.as_bytes())
        };
        match grants.iter().any(fits) {
            true => Ok(()),
            false => {
                let what = format!("the role '{}' for '{}'", need.role(), begin(key));
                Err(self.denied(need.role(), &what))
            }
        }
    }

    fn denied(&self, missing: &'static str, what: &str) -> Denied {
        let grants = self.grants.iter().flat_map(|grants| grants.iter());
        let grants: Vec<_> = grants.map(ToString::to_string).collect();
        Denied {
            missing,
            message: format!(
                "this needs {what}; the certificate of '{}' gives {}",
                self.who,
                match &*grants {
                    [] => "no role".to_owned(),
                    grants => grants.join(", "),
                }
            ),
        }
    }
}

/// As much of a key as a message shows.
fn begin(key: &str) -> &str {
    const SHOWN_CHARS_MAX: usize = 64;
    match key.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((cut, _)) => &key[..cut],
        None => key,
    }
}

#[cfg(test)]
mod tests;
