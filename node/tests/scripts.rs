//! Golden scripts: conversations of a small cluster of real engines, as text that can be read.
//!
//! Each file in `scripts/` tells one story: commands, then `---`, then what the cluster said and
//! did. `UPDATE_GOLDENFILES=1 cargo test --test scripts` writes the answers anew; read the
//! difference before committing it.

#[path = "scripts/cluster.rs"]
mod cluster;
#[path = "support/tell.rs"]
mod tell;

use cluster::Cluster;
use goldenscript::{Command, Context, Runner};
use std::error::Error;
use std::fmt::Write as _;

struct Script(Option<Cluster>);

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        if command.name == "cluster" {
            let number = |text: Option<&str>, default: u64| text.map_or(Ok(default), str::parse);
            let nodes = number(args.take_key("nodes"), 3)?;
            let seed = number(args.take_key("seed"), 8)?;
            let raise_format = number(args.take_key("raise-format-from"), u64::MAX)?;
            let old = args.take_key("old").map(|id| node(Some(id.to_string())));
            let old = old.transpose()?;
            args.reject_next()?;
            self.0 = Some(Cluster::new(nodes, seed, raise_format, old));
            return Ok(String::new());
        }
        let cluster = self.0.as_mut().ok_or("begin with `cluster`")?;
        cluster.log_everything = args.take_key("show") == Some("all");
        let mut word = || args.next_pos().map(str::to_string);
        match command.name.as_str() {
            "run" => cluster.run_for(word().ok_or("how many ms?")?.parse()?),
            "set" => cluster.set(
                node(word())?,
                &word().ok_or("key?")?,
                &word().ok_or("value?")?,
            ),
            "get" => cluster.lease_get(node(word())?, &word().ok_or("key?")?),
            "quorum-get" => cluster.quorum_get(node(word())?, &word().ok_or("key?")?),
            "stop" => cluster.stop(node(word())?),
            "crash" => cluster.crash(node(word())?),
            "start" => cluster.start(node(word())?)?,
            "install" => cluster.install(
                node(word())?,
                word().ok_or("which format does it read?")?.parse()?,
            ),
            "cut" => cluster.cut(node(word())?, node(word())?),
            "heal" => cluster.heal(),
            "break-link" => cluster.break_link(node(word())?, node(word())?),
            "stall-disk" => cluster.stall_disk(node(word())?, true),
            "unstall-disk" => cluster.stall_disk(node(word())?, false),
            "transfer" => cluster.transfer(node(word())?, node(word())?),
            "copy" => cluster.copy(node(word())?),
            "restore" => cluster.restore(node(word())?)?,
            "damage" => cluster.damage(node(word())?, word().ok_or("which line?")?.parse()?),
            "accept-damage" => cluster.accept_damage(node(word())?),
            "alone" => cluster.start_alone(node(word())?)?,
            "logs" => cluster.show_log(node(word())?),
            "status" => cluster.show_status(),
            other => return Err(format!("unknown command {other}").into()),
        }
        args.reject_next()?;
        Ok(cluster.take_output())
    }

    fn end_script(&mut self) -> Result<(), Box<dyn Error>> {
        match &self.0 {
            Some(cluster) => cluster.check_logs_agree(),
            None => Err("an empty story".into()),
        }
    }
}

fn node(word: Option<String>) -> Result<u64, Box<dyn Error>> {
    let word = word.ok_or("which node?")?;
    let number = word
        .strip_prefix('n')
        .ok_or("nodes are called n1, n2, ...")?;
    Ok(number.parse()?)
}

fn tell(name: &str) {
    let path = format!("{}/tests/scripts/{name}", env!("CARGO_MANIFEST_DIR"));
    if let Err(error) = goldenscript::run(&mut Script(None), path) {
        panic!("{name}: {error}");
    }
}

/// One test a story, so that a failure names it.
macro_rules! stories {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            tell(stringify!($name));
        })*

        /// Goal: no story lies in the folder untold.
        #[test]
        fn all_stories_are_told() {
            let told = [$(stringify!($name)),*];
            let folder = format!("{}/tests/scripts", env!("CARGO_MANIFEST_DIR"));
            let mut missed = String::new();
            for file in std::fs::read_dir(folder).unwrap() {
                let name = file.unwrap().file_name().into_string().unwrap();
                if !name.ends_with(".rs") && !told.contains(&name.as_str()) {
                    writeln!(missed, "{name}").unwrap();
                }
            }
            assert_eq!(missed, "");
        }
    };
}

stories! {
    first_election
    replication
    leader_crash
    leader_cut_off
    flaky_link
    transfer
    restart_remembers_promise
    backtracking
    quorum_read
    stalled_disk
    one_node
    rolling_restart
    restored_member
    restored_member_refilled
    accepted_damage
    stood_alone
    format_raised
}
