//! Why a test is not run.

use std::path::Path;
use std::sync::OnceLock;

/// Something that a test needs and that a machine may lack. It is looked for once in a program.
pub struct Need {
    look: fn() -> Option<String>,
    missing: OnceLock<Option<String>>,
    pub(crate) is_optional: bool,
}

impl Need {
    /// `look` says what is missing.
    pub const fn new(look: fn() -> Option<String>) -> Self {
        Need {
            look,
            missing: OnceLock::new(),
            is_optional: false,
        }
    }

    /// The same where it may be missing with `CI=true` as well: it can't be installed like the others.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }

    /// What is missing.
    pub(crate) fn missing(&self) -> Option<&str> {
        self.missing.get_or_init(self.look).as_deref()
    }
}

/// Says that a program is not in the `PATH`, and what to install.
pub fn program_is_missing(program: &str, remedy: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    (!is_there).then(|| format!("{program} is not installed; {remedy}"))
}

/// What was asked for.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// Heavy tests too.
    pub heavy: bool,
    /// Nothing may be missing.
    pub complete: bool,
}

/// What becomes of a test before it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Run,
    LeaveOut(String),
    Fail(String),
}

/// Heavy tests are not even looked into: what they need may take long to find out.
pub(crate) fn verdict(is_heavy: bool, needs: &[&Need], asked: Asked) -> Verdict {
    if is_heavy && !asked.heavy {
        return Verdict::LeaveOut("run by .ci/run, or with `-- --include-ignored`".into());
    }
    let missing = needs.iter().find_map(|need| Some((need, need.missing()?)));
    let Some((need, why)) = missing else {
        return Verdict::Run;
    };
    if asked.complete && !need.is_optional {
        Verdict::Fail(format!("{why}; CI=true lets nothing be missing"))
    } else {
        Verdict::LeaveOut(why.to_owned())
    }
}

/// The folder of a program has no test of the built-in harness, which would be dropped without a word.
pub(crate) fn strays(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(strays(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let is_stray = |line: &&str| {
                let line = line.trim_start();
                line.starts_with("#[test]") || line.starts_with("#[tokio::test")
            };
            found.extend(
                text.lines()
                    .filter(is_stray)
                    .map(|_| path.display().to_string()),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    static THERE: Need = Need::new(|| None);
    static AWAY: Need = Need::new(|| Some("no engine".into()));
    const PLAIN: Asked = Asked {
        heavy: false,
        complete: false,
    };

    // What is missing leaves a test out, and fails it where nothing may be missing.
    #[test]
    fn what_is_missing_decides() {
        assert_eq!(verdict(false, &[&THERE], PLAIN), Verdict::Run);
        let left_out = verdict(false, &[&THERE, &AWAY], PLAIN);
        assert_eq!(left_out, Verdict::LeaveOut("no engine".into()));
        let complete = Asked {
            complete: true,
            ..PLAIN
        };
        let failed = verdict(false, &[&AWAY], complete);
        assert!(matches!(failed, Verdict::Fail(why) if why.contains("no engine")));
        static RARE: Need = Need::new(|| Some("no grpcurl".into())).optional();
        let left_out = verdict(false, &[&RARE], complete);
        assert_eq!(left_out, Verdict::LeaveOut("no grpcurl".into()));
    }

    // A heavy test is left out whatever is there, until it is asked for.
    #[test]
    fn heavy_tests_are_asked_for() {
        assert!(matches!(
            verdict(true, &[&THERE], PLAIN),
            Verdict::LeaveOut(_)
        ));
        let heavy = Asked {
            heavy: true,
            ..PLAIN
        };
        assert_eq!(verdict(true, &[&THERE], heavy), Verdict::Run);
    }

    // A test of the built-in harness is found wherever it stands.
    #[test]
    fn strays_are_found() {
        let folder = std::env::temp_dir().join(format!("harness-strays-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        std::fs::write(folder.join("deep/a.rs"), "fn a() {}\n    #[tokio::test]\n").unwrap();
        std::fs::write(folder.join("b.rs"), "// as #[test] does\n").unwrap();
        let found = strays(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
