//! The lock of a cluster on its hosts: two operators on two machines can't change it at once.
//!
//! It is a file that names its holder and the time at which it ends, on every host. Whoever holds
//! it makes it last while at work; where a holder disappears, it ends by itself. The host's own
//! clock counts.

use std::time::Duration;

use super::control::run;
use super::inventory::Host;
use crate::error::Result;
use crate::scripts::shell::{END, call};
use crate::transport::Request;

const LOCK: &str = include_str!("../scripts/lock.sh");

/// How long a lock lasts that nobody makes last longer.
pub const LASTS: Duration = Duration::from_secs(60);

/// Who holds a lock, or wants to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Unique to the process.
    pub token: String,
    /// The token of a process that is known to be dead, whose lock may be taken over.
    pub dead_token: String,
    /// For people: who, where, what.
    pub holder: String,
}

/// Someone else's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The holder's token.
    pub token: String,
    /// For people: who, where, what.
    pub holder: String,
    /// When it ends unless it is made to last.
    pub left_seconds: u64,
}

fn script(call: &str) -> String {
    format!("set -u\nexport LC_ALL=C\numask 022\n{LOCK}{call}\necho {END}\n")
}

/// Takes the lock of a host, or makes it last; whoever holds it instead.
///
/// # Errors
/// The host can't be reached, or no file can be written there.
pub async fn take(host: &Host, claim: &Claim, deadline: Duration) -> Result<Option<Held>> {
    let seconds = LASTS.as_secs().to_string();
    let words = [
        host.layout.base.as_str(),
        &claim.token,
        &claim.dead_token,
        &claim.holder,
        &seconds,
    ];
    let script = script(&call("take_lock", words));
    let answer = run(host, Request::new("lock the cluster", &script, deadline)).await?;
    if answer.one("host", "lock")? == "taken" {
        return Ok(None);
    }
    Ok(Some(Held {
        token: answer.one("host", "token")?.to_owned(),
        holder: answer.one("host", "holder")?.to_owned(),
        left_seconds: answer.number("host", "left_seconds")?,
    }))
}

/// Makes a lock last that was taken before; `false` where it is not there any more.
///
/// # Errors
/// The host can't be reached, or no file can be written there.
pub async fn renew(host: &Host, claim: &Claim, deadline: Duration) -> Result<bool> {
    let seconds = LASTS.as_secs().to_string();
    let base = host.layout.base.as_str();
    let words = [base, &claim.token, &claim.holder, &seconds];
    let script = script(&call("renew_lock", words));
    let answer = run(host, Request::new("keep the lock", &script, deadline)).await?;
    Ok(answer.one("host", "lock")? == "taken")
}

/// Gives a lock back.
///
/// # Errors
/// The host can't be reached; then the lock ends by itself.
pub async fn leave(host: &Host, token: &str, deadline: Duration) -> Result<()> {
    let script = script(&call("leave_lock", [host.layout.base.as_str(), token]));
    run(host, Request::new("unlock the cluster", &script, deadline))
        .await
        .map(drop)
}

/// The holder of a host's lock and the seconds that are left, where there is one.
///
/// # Errors
/// The host can't be reached.
pub async fn show(host: &Host, deadline: Duration) -> Result<Option<(String, u64)>> {
    let script = script(&call("show_lock", [host.layout.base.as_str()]));
    let answer = run(host, Request::new("look at the lock", &script, deadline)).await?;
    let holder = answer.all("host", "holder").next().map(str::to_owned);
    holder
        .map(|holder| Ok((holder, answer.number("host", "left_seconds")?)))
        .transpose()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::scripts::layout::HostLayout;
    use crate::transport::local::LocalTransport;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn claim(token: &str) -> Claim {
        Claim {
            token: token.into(),
            dead_token: String::new(),
            holder: format!("{token}'s holder, it's"),
        }
    }

    // One holder at a time, who can make it last; the next one gets it when it is given back, when
    // its holder is known to be dead, or when its time is over.
    #[tokio::test]
    async fn a_lock_has_one_holder() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base");
        let host = Host {
            transport: Arc::new(LocalTransport),
            layout: HostLayout::remote(base.to_str().unwrap()),
            nodes: vec![1],
        };
        let take = async |claim: &Claim| take(&host, claim, DEADLINE).await.unwrap();
        assert_eq!(take(&claim("a")).await, None);
        assert_eq!(take(&claim("a")).await, None);
        let held = take(&claim("b")).await.unwrap();
        assert_eq!((&*held.token, &*held.holder), ("a", "a's holder, it's"));
        assert!((1..=60).contains(&held.left_seconds), "{held:?}");
        assert_eq!(
            show(&host, DEADLINE).await.unwrap().unwrap().0,
            "a's holder, it's"
        );

        assert!(renew(&host, &claim("a"), DEADLINE).await.unwrap());
        assert!(!renew(&host, &claim("b"), DEADLINE).await.unwrap());
        leave(&host, "b", DEADLINE).await.unwrap();
        assert!(
            take(&claim("b")).await.is_some(),
            "nobody gives back another's lock"
        );
        leave(&host, "a", DEADLINE).await.unwrap();
        assert_eq!(take(&claim("b")).await, None);
        let knows = Claim {
            dead_token: "b".into(),
            ..claim("c")
        };
        assert_eq!(take(&knows).await, None);

        std::fs::write(base.join("lock"), "token=c\nholder=c\nuntil=1\n").unwrap();
        assert_eq!(show(&host, DEADLINE).await.unwrap(), None);
        assert!(
            renew(&host, &claim("c"), DEADLINE).await.unwrap(),
            "nobody took it"
        );
        leave(&host, "c", DEADLINE).await.unwrap();
        assert!(
            !renew(&host, &claim("c"), DEADLINE).await.unwrap(),
            "someone may have had it"
        );
        assert_eq!(take(&claim("a")).await, None);
    }
}
