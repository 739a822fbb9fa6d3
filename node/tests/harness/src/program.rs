//! A program of tests: from the command line to the exit code.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Completion, Failed, FormatSetting, Trial};

use crate::left_out::{Asked, Need, Verdict, strays, verdict};
use crate::output::{keep_panics, kept};
use crate::shared::{End, Shared};

/// The test that every program has: see [`counts`].
const OWN: &str = "harness::what_is_left_out_is_counted";

/// A test, and what it needs.
#[derive(Clone)]
pub struct Test {
    name: String,
    needs: &'static [&'static Need],
    body: Arc<dyn Fn() + Send + Sync>,
}

impl Test {
    /// Of a name with the path of its module: [`tests!`](crate::tests!) makes it.
    pub fn new(
        path: &str,
        needs: &'static [&'static Need],
        body: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        // As in the built-in harness: without the name of the program.
        let name = path.split_once("::").map_or(path, |(_, name)| name);
        Test {
            name: name.to_owned(),
            needs,
            body: Arc::new(body),
        }
    }

    /// The same test of one of several things, whose name comes before its own.
    #[must_use]
    pub fn of(mut self, one: &str) -> Self {
        let own = self.name.rfind("::").map_or(0, |at| at + 2);
        self.name.insert_str(own, &format!("{one}::"));
        self
    }
}

/// A program, to be [run](Program::run).
pub struct Program {
    folder: &'static str,
    tests: Vec<Test>,
    is_heavy: bool,
    shared: Vec<&'static dyn End>,
}

/// Tests that were left out, by their reason.
type LeftOut = Arc<Mutex<BTreeMap<String, u64>>>;

impl Program {
    /// Some tests, and the folder of their sources.
    pub fn new(folder: &'static str, tests: Vec<Test>) -> Self {
        Program {
            folder,
            tests,
            is_heavy: false,
            shared: Vec::new(),
        }
    }

    /// Its tests are left out where nobody asks for them.
    pub fn heavy(mut self) -> Self {
        self.is_heavy = true;
        self
    }

    /// Something that its tests share ends with the program.
    pub fn ends<T: Send>(mut self, shared: &'static Shared<T>) -> Self {
        self.shared.push(shared);
        self
    }

    /// Runs what the command line asks for.
    pub fn run(self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        let threads = || std::env::var("RUST_TEST_THREADS").ok()?.parse().ok();
        arguments.test_threads = arguments.test_threads.or_else(threads);
        if !arguments.nocapture {
            keep_panics();
        }
        let left_out = LeftOut::default();
        let mut trials = vec![self.own()];
        let trial = |test: &Test| self.trial(test, &arguments, &left_out);
        trials.extend(dealt(&self.tests).into_iter().map(trial));
        let conclusion = libtest_mimic::run(&arguments, trials);
        if arguments.format != Some(FormatSetting::Json) {
            let counts = left_out.lock().unwrap_or_else(PoisonError::into_inner);
            for (why, count) in &*counts {
                println!("not run: {count} tests ({why})\n");
            }
        }
        let ended_badly = self.shared.iter().filter(|one| !one.end()).count();
        if ended_badly == 0 {
            conclusion.exit_code()
        } else {
            eprintln!("what the tests shared did not end well");
            ExitCode::from(101)
        }
    }

    fn trial(&self, test: &Test, arguments: &Arguments, left_out: &LeftOut) -> Trial {
        let Test { name, needs, body } = test.clone();
        let is_heavy = self.is_heavy;
        let asked = Asked {
            heavy: arguments.ignored || arguments.include_ignored,
            complete: std::env::var_os("CI").is_some_and(|value| value == "true"),
        };
        let nocapture = arguments.nocapture;
        let left_out = Arc::clone(left_out);
        // Whoever lists or runs the ignored ones means those that would be left out otherwise.
        let is_ignored = arguments.ignored && {
            let by_default = Asked {
                heavy: false,
                complete: false,
            };
            verdict(is_heavy, needs, by_default) != Verdict::Run
        };
        let run = move || match verdict(is_heavy, needs, asked) {
            Verdict::Run if nocapture => {
                body();
                Ok(Completion::Completed)
            }
            Verdict::Run => kept(|| body())
                .map(|()| Completion::Completed)
                .map_err(Failed::from),
            Verdict::Fail(why) => Err(why.into()),
            Verdict::LeaveOut(why) => {
                let mut counts = left_out.lock().unwrap_or_else(PoisonError::into_inner);
                *counts.entry(why.clone()).or_default() += 1;
                Ok(Completion::ignored_with(why))
            }
        };
        Trial::ignorable_test(name, run).with_ignored_flag(is_ignored)
    }

    /// The test of the program itself.
    fn own(&self) -> Trial {
        let (folder, is_heavy) = (self.folder, self.is_heavy);
        let (needy, others): (Vec<_>, Vec<_>) =
            self.tests.iter().partition(|test| !test.needs.is_empty());
        let is_optional = |test: &&&Test| test.needs.iter().any(|need| need.is_optional);
        let optional = needy.iter().filter(is_optional).count();
        let needy = needy.len();
        let others: Vec<_> = others.iter().map(|test| test.name.clone()).collect();
        let run = move || {
            assert_eq!(
                strays(Path::new(folder)),
                [""; 0],
                "these belong into `tests!`"
            );
            counts(needy, optional, &others, is_heavy);
        };
        Trial::test(OWN, move || kept(run).map_err(Failed::from))
    }
}

/// The tests, one of each module in turn: those that stand on one thing wait for each other, and whoever
/// has to wait does no other work.
fn dealt(tests: &[Test]) -> Vec<&Test> {
    let module = |test: &Test| {
        test.name
            .rsplit_once("::")
            .map(|(module, _)| module.to_owned())
    };
    let mut rounds: Vec<(usize, &Test)> = Vec::new();
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    for test in tests {
        let count = counts.entry(module(test)).or_default();
        rounds.push((*count, test));
        *count += 1;
    }
    rounds.sort_by_key(|(round, _)| *round);
    rounds.into_iter().map(|(_, test)| test).collect()
}

/// The program itself tells what it leaves out: where no tool is in the `PATH`, tests that need one are
/// ignored, with the reason beside each and at the end; with `CI=true` they fail. Heavy ones are named
/// as such before anything is looked for.
fn counts(needy: usize, optional: usize, others: &[String], is_heavy: bool) {
    let without_tools = |arguments: &[&str], is_complete: bool| {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(arguments).args(["--exact", "--skip", OWN]);
        for other in others {
            program.args(["--skip", other]);
        }
        program.env("PATH", "/nonexistent").env_remove("CI");
        if is_complete {
            program.env("CI", "true");
        }
        let output = program.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), text)
    };

    let (succeeded, text) = without_tools(&["--include-ignored"], false);
    let count = format!("0 passed; 0 failed; {needy} ignored");
    assert!(succeeded && text.contains(&count), "{count}: {text}");
    let reasons = |text: &str| text.matches(" is not installed; ").count();
    let (beside, at_the_end) = text.split_once("test result: ").unwrap();
    assert_eq!(reasons(beside), needy, "{text}");
    assert!(
        at_the_end.contains("not run: ") && reasons(at_the_end) > 0,
        "{text}"
    );

    let (succeeded, text) = without_tools(&["--include-ignored"], true);
    let count = format!("0 passed; {} failed; {optional} ignored", needy - optional);
    assert!(!succeeded && text.contains(&count), "{count}: {text}");

    if is_heavy {
        let (succeeded, text) = without_tools(&[], true);
        let count = format!("0 passed; 0 failed; {needy} ignored");
        assert!(succeeded && text.contains(&count), "{count}: {text}");
        let named = format!("not run: {needy} tests (run by .ci/run");
        assert!(text.contains(&named), "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Modules take turns, and each keeps its order.
    #[test]
    fn modules_take_turns() {
        let of = |path: &str| Test::new(path, &[], || ());
        let tests = ["p::a::1", "p::a::2", "p::a::3", "p::b::1", "p::b::2"].map(of);
        let names: Vec<_> = dealt(&tests).iter().map(|test| test.name.clone()).collect();
        assert_eq!(names, ["a::1", "b::1", "a::2", "b::2", "a::3"]);
    }

    // The thing that a test is one of stands before its own name.
    #[test]
    fn a_test_is_of_one_thing() {
        let test = Test::new("program::life::starts", &[], || ());
        assert_eq!(test.of("as_root").name, "life::as_root::starts");
    }
}
