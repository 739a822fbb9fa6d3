//! Who runs raftctl, for those who have to wait for them.

/// The operator's name: what the environment says, else what this machine's list of users says,
/// else the number.
#[must_use]
pub fn name() -> String {
    let said = std::env::var("USER").ok().filter(|name| !name.is_empty());
    said.unwrap_or_else(|| {
        let uid = rustix::process::getuid().as_raw();
        // Users may be kept elsewhere; then the number has to do.
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        of(uid, &users)
    })
}

/// The name of a user in a file like `/etc/passwd`; `user 1000` where there is none.
fn of(uid: u32, users: &str) -> String {
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?;
        (number.parse() == Ok(uid) && !name.is_empty()).then_some(name)
    });
    name.map_or_else(|| format!("user {uid}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A user has a name, or at least a number.
    #[test]
    fn a_user_is_named() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(of(0, users), "root");
        assert_eq!(of(1000, users), "ann");
        assert_eq!(of(1001, users), "user 1001");
        assert!(!name().is_empty());
    }
}
