//! The scripts as text, and that shells take them.

use super::*;
use crate::scripts::layout::HostLayout;

fn node(id: u64) -> NodeLayout {
    HostLayout::new("/base").node(id)
}

fn look_at(ports: &[u16], filter: Option<&str>) -> LookAt {
    LookAt {
        layout: node(1),
        ports: ports.to_vec(),
        filter: filter.map(str::to_owned),
    }
}

/// A script without its functions: the calls alone.
fn calls(script: &str) -> String {
    let functions = [PRELUDE, START, PORTS].iter().flat_map(|part| part.lines());
    let functions: Vec<&str> = functions.collect();
    let is_call = |line: &&str| {
        !functions.contains(line) && line.starts_with(|c: char| c.is_ascii_lowercase())
    };
    let lines: Vec<&str> = script.lines().filter(is_call).collect();
    lines
        .iter()
        .filter(|line| !line.ends_with("() {"))
        .map(|line| format!("{line}\n"))
        .collect()
}

// Whatever is in a word, it stays one word, and nothing in it is run.
#[test]
fn words_are_quoted() {
    assert_eq!(quote("/a/b-1.x"), "/a/b-1.x");
    assert_eq!(quote(""), "''");
    assert_eq!(quote("a b"), "'a b'");
    assert_eq!(quote("$(reboot)`x`\\"), "'$(reboot)`x`\\'");
    assert_eq!(quote("it's"), r"'it'\''s'");
    assert_eq!(quote("a\nb"), "'a\nb'");
    assert_eq!(quote("~root"), "'~root'");
}

// Nodes are all started before any is waited for, each with its own arguments.
#[test]
fn start_is_one_call_a_node() {
    let start_node = |id| StartNode {
        layout: node(id),
        executable: "/my bin/raft-node".into(),
        arguments: vec!["--id".into(), id.to_string()],
        sha256: "abcd".into(),
    };
    assert_eq!(
        calls(&start(&[start_node(1), start_node(2)])),
        "alone /base/run\n\
         start 1 /base/run/node_1.pid /base/run/node_1.args /base/run/node_1.log \
         /base/logs_node_1 '/my bin/raft-node' abcd --id 1\n\
         start 2 /base/run/node_2.pid /base/run/node_2.args /base/run/node_2.log \
         /base/logs_node_2 '/my bin/raft-node' abcd --id 2\n\
         settle 1 /base/run/node_1.pid /base/run/node_1.args\n\
         settle 2 /base/run/node_2.pid /base/run/node_2.args\n\
         echo end=ok\n"
    );
}

// Every node gets its signal before any is waited for, and a paused one is woken to obey.
#[test]
fn signals_are_sent_to_all_first() {
    assert_eq!(
        calls(&signal(&[node(1), node(3)], NodeSignal::Stop, 2500, None)),
        "send 1 /base/run/node_1.pid TERM CONT\n\
         send 3 /base/run/node_3.pid TERM CONT\n\
         no_limit /base/run/node_1.pid\n\
         no_limit /base/run/node_3.pid\n\
         obey 1 /base/run/node_1.pid stopped 25\n\
         obey 3 /base/run/node_3.pid stopped 25\n\
         echo end=ok\n"
    );
    let kill = signal(&[node(1)], NodeSignal::Kill, 1, None);
    assert!(
        calls(&kill).ends_with("obey 1 /base/run/node_1.pid stopped 1\necho end=ok\n"),
        "{kill}"
    );
    let pause = signal(&[node(1)], NodeSignal::Pause, 1, None);
    assert!(
        calls(&pause).contains("pid STOP\nobey 1 /base/run/node_1.pid paused 1\n"),
        "{pause}"
    );
}

/// Runs a script; what it said.
fn run(script: &str) -> String {
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A process that ends with its test, however that ends.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill(); // It may be gone already.
        self.0.wait().unwrap();
    }
}

/// A process that has written its pid file, and becomes the node when a file appears.
struct Becoming {
    folder: tempfile::TempDir,
    process: Killed,
}

impl Becoming {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| quote(folder.path().join(name).to_str().unwrap());
        let (executable, pid_file, go) = (path("raft-node"), path("run/node_1.pid"), path("go"));
        let script = format!(
            "set -eu
             mkdir {run}; cp \"$(command -v sleep)\" {executable}
             stat=$(cat /proc/$$/stat); set -- ${{stat##*) }}
             printf 'pid=%s\\nstart=%s\\nboot=%s\\nexecutable=%s\\n' $$ ${{20}} \
               \"$(cat /proc/sys/kernel/random/boot_id)\" {executable} >{pid_file}.new
             mv {pid_file}.new {pid_file}
             until [ -e {go} ]; do sleep 0.01; done
             exec {executable} 600",
            run = path("run")
        );
        let process = std::process::Command::new("sh")
            .args(["-c", &script])
            .spawn()
            .unwrap();
        let process = Killed(process);
        let becoming = Becoming { folder, process };
        while !becoming.has_record() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        becoming
    }

    fn layout(&self) -> NodeLayout {
        HostLayout::new(self.folder.path().to_str().unwrap()).node(1)
    }

    fn has_record(&self) -> bool {
        std::path::Path::new(&self.layout().pid_file).exists()
    }

    fn become_the_node(&self) {
        std::fs::write(self.folder.path().join("go"), "").unwrap();
    }
}

// Between its pid file and its becoming the node a process is none yet, and is not forgotten: who
// tidies up leaves it alone, and who kills or freezes it waits until it is.
#[test]
fn what_becomes_a_node_is_not_forgotten() {
    let mut becoming = Becoming::start();
    let node = [becoming.layout()];
    assert_eq!(run(&clean(&node)), "1.cleaned=no\nend=ok\n");
    assert_eq!(run(&purge(&node, None)), "1.purged=no\nend=ok\n");
    assert!(becoming.has_record());
    // One that does not get on is not called stopped, either.
    let kill = signal(&node, NodeSignal::Kill, 2000, None);
    assert_eq!(run(&kill), "1.was=stopped\n1.state=running\nend=ok\n");
    assert!(becoming.has_record());
    let killing = std::thread::spawn(move || run(&kill));
    becoming.become_the_node();
    assert_eq!(
        killing.join().unwrap(),
        "1.was=running\n1.state=stopped\nend=ok\n"
    );
    assert!(!becoming.has_record());
    assert!(!becoming.process.0.wait().unwrap().success());
}

// Whoever starts a node while someone else does finds it running: there is one process, and it is
// the one that the pid file names.
#[test]
fn a_node_is_started_once() {
    let folder = tempfile::tempdir().unwrap();
    let layout = HostLayout::new(folder.path().to_str().unwrap()).node(1);
    let executable = folder.path().join("raft-node");
    let copied = format!(
        "cp \"$(command -v sleep)\" {}",
        quote(executable.to_str().unwrap())
    );
    run(&copied);
    let node = StartNode {
        layout: layout.clone(),
        executable: executable.to_str().unwrap().into(),
        arguments: vec![],
        sha256: "abcd".into(),
    };
    let script = start(&[node]);
    // What runs instead of the node takes no file of arguments.
    let becomes = r#"exec "$2" "@$3""#;
    assert!(script.contains(becomes), "{script}");
    let script = script.replace(becomes, r#"exec "$2" 600"#);
    let starting: Vec<_> = (0..8)
        .map(|_| {
            let script = script.clone();
            std::thread::spawn(move || run(&script))
        })
        .collect();
    let answers: Vec<String> = starting
        .into_iter()
        .map(|starting| starting.join().unwrap())
        .collect();
    let count = |line: &str| {
        let lines = answers.iter().flat_map(|answer| answer.lines());
        lines.filter(|own| *own == line).count()
    };
    let record = std::fs::read_to_string(&layout.pid_file).unwrap();
    let pid = record.lines().next().unwrap();
    let told = (count("1.started=yes"), count(&format!("1.{pid}")));
    let killed = run(&signal(&[layout], NodeSignal::Kill, 2000, None));
    assert_eq!(told, (1, 8), "{answers:?}");
    assert_eq!(killed, "1.was=running\n1.state=stopped\nend=ok\n");
}

// A pause with an end ends by itself; another signal that comes before takes the timer away.
#[test]
fn a_pause_with_an_end_ends() {
    let nodes = [(); 2].map(|()| Becoming::start());
    nodes.iter().for_each(Becoming::become_the_node);
    let [first, second] = [&nodes[0], &nodes[1]].map(|node| [node.layout()]);
    let pause = |node: &[NodeLayout], after_seconds| {
        let mark = format!("{after_seconds}");
        let thaw = Thaw {
            after_seconds,
            mark,
        };
        let script = signal(node, NodeSignal::Pause, 2000, Some(&thaw));
        assert!(run(&script).contains("1.state=paused\n"));
    };
    pause(&first, 1);
    let for_ever = signal(&first, NodeSignal::Pause, 2000, None);
    assert!(run(&for_ever).contains("1.state=paused\n"));
    pause(&second, 2);
    let state = |node: &[NodeLayout]| {
        let look_at = LookAt {
            layout: node[0].clone(),
            ports: vec![],
            filter: None,
        };
        let facts = run(&facts("/", &[look_at]));
        let mut lines = facts.lines();
        lines
            .find_map(|line| Some(line.strip_prefix("1.state=")?.to_owned()))
            .unwrap()
    };
    let started = std::time::Instant::now();
    while state(&second) == "paused" {
        assert!(started.elapsed().as_secs() < 60, "it stays paused");
    }
    assert_eq!(state(&first), "paused", "its timer was taken away");
}

// Ports are looked for in the form that the kernel shows them.
#[test]
fn facts_ask_for_ports_in_hexadecimal() {
    assert_eq!(
        calls(&facts(
            "/base",
            &[look_at(&[7401, 7501], Some("raftkv_demo_1"))]
        )),
        "host /base\n\
         setting /base\n\
         report 1 /base/run/node_1.pid /base/run/node_1.args\n\
         data 1 /base/logs_node_1 /base/run/node_1.pid\n\
         names 1 /base/logs_node_1\n\
         certificates 1 /base/tls_node_1\n\
         ports 1 /base/run/node_1.pid '1CE9|1D4D'\n\
         filtered 1 raftkv_demo_1\n\
         echo end=ok\n"
    );
}

// No process is ever looked for by name.
#[test]
fn processes_are_never_matched_by_name() {
    for text in [PRELUDE, START, PORTS] {
        for tool in ["pkill", "killall", "pgrep", "pidof", "ps aux", "ps -e"] {
            assert!(!text.contains(tool), "{tool}");
        }
    }
}

// Every script is one that a POSIX shell can read, and says at its end that it came there.
#[test]
fn shells_read_every_script() {
    let nodes = [node(1), node(2)];
    let start_node = StartNode {
        layout: node(1),
        executable: "/x".into(),
        arguments: vec!["it's".into()],
        sha256: "a".into(),
    };
    let thaw = Thaw {
        after_seconds: 30,
        mark: "a".into(),
    };
    let with_end = [
        start(&[start_node]),
        signal(&nodes, NodeSignal::Resume, 100, None),
        signal(&nodes, NodeSignal::Pause, 100, Some(&thaw)),
        facts("/base", &[look_at(&[1], Some("t"))]),
        tail(&nodes),
        clean(&nodes),
        purge(&nodes, None),
        purge(&nodes, Some("/opt/raftkv/demo")),
    ];
    for script in &with_end {
        assert!(script.ends_with("echo end=ok\n"), "{script}");
    }
    for script in with_end.iter().chain([&fetch(&node(1), &["a b", "c"])]) {
        let status = std::process::Command::new("sh")
            .args(["-n", "-c", script])
            .status();
        assert!(status.unwrap().success(), "{script}");
    }
}

// An earlier version is given the options that it knows; another one all of them. What can't tell is
// given none that it can do without.
#[test]
fn a_program_is_given_what_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let given = |help: &str| {
        let program = folder.path().join("raft-node");
        std::fs::write(&program, format!("#!/bin/sh\n{help}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let program = quote(program.to_str().unwrap());
        run(&format!(
            "{START}\nprintf '%s\\n' --id 1 --cluster-id aa --quiet | fitting {program}"
        ))
    };
    let all = "--id\n1\n--cluster-id\naa\n--quiet\n";
    assert_eq!(given("echo '  --id <N>'; echo '  --cluster-id <HEX>'"), all);
    let without = "--id\n1\n--quiet\n";
    for help in ["echo '  --cluster <NAME>'", "exit 2"] {
        assert_eq!(given(help), without);
    }
}

// A node's files tell the id of its cluster, and nothing else.
#[test]
fn the_id_is_read_from_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().to_str().unwrap();
    let look_at = LookAt {
        layout: HostLayout::new(base).node(1),
        ports: vec![],
        filter: None,
    };
    let told = || run(&facts(base, std::slice::from_ref(&look_at)));
    assert!(!told().contains("cluster_id"), "there is no file");
    std::fs::create_dir(folder.path().join("logs_node_1")).unwrap();
    let id = "0123456789abcdef0123456789abcdef";
    let text =
        format!("format 2 (x)\ncurrentTerm 1\nclusterId {id}\nclusterId `id`\ndirectoryId {id}\n");
    std::fs::write(folder.path().join("logs_node_1/metadata.txt"), text).unwrap();
    let told = told();
    let is_name = |line: &&str| line.contains("cluster_id") || line.contains("format");
    let lines: Vec<&str> = told.lines().filter(is_name).collect();
    assert_eq!(lines, ["1.format=2", &format!("1.cluster_id={id}")]);
}

// What a login leaves behind outlives it where systemd lets it linger, and is started in a scope of its
// own only where it would not outlive it otherwise; where neither is so, that is known before.
#[test]
fn nodes_outlive_a_login_where_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let program = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(file, mode).unwrap();
    };
    // A keeper of sessions that knows a manager and a user, and lets the user linger if it may.
    program(
        "loginctl",
        "d=${0%/*}; case $* in
           enable-linger) [ ! -e $d/may ] || echo Linger=yes >$d/user ;;
           *Linger) cat $d/user ;;
           *) grep \"^$3=\" $d/manager ;;
         esac",
    );
    program("systemd-run", "exit 9");
    program("pkcheck", "[ -e ${0%/*}/may ]");
    let script = LINGER.replace("/run/systemd/system", &path.to_string());
    let asked = |manager: &str, lingers: &str, may: bool, calls: &str| {
        std::fs::write(folder.path().join("manager"), manager).unwrap();
        std::fs::write(folder.path().join("user"), format!("Linger={lingers}\n")).unwrap();
        let mark = folder.path().join("may");
        let _ = std::fs::remove_file(&mark);
        if may {
            std::fs::write(mark, "").unwrap();
        }
        let text = format!("PATH={path}:$PATH\n{script}{calls}");
        let output = std::process::Command::new("sh")
            .args(["-c", &text])
            .output()
            .unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let me = std::process::Command::new("id")
        .arg("-un")
        .output()
        .unwrap();
    let me = String::from_utf8(me.stdout).unwrap();
    let kills = "KillUserProcesses=yes\nKillExcludeUsers=someone\nKillOnlyUsers=\n";
    let spares = format!("KillUserProcesses=yes\nKillExcludeUsers=someone {me}KillOnlyUsers=\n");
    let others = "KillUserProcesses=yes\nKillExcludeUsers=\nKillOnlyUsers=someone\n";
    let started =
        |manager: &str, lingers, may| asked(manager, lingers, may, "linger; echo \"$in_scope\"");
    let scope = "systemd-run --user --scope --quiet --";
    for (manager, lingers, may, wanted) in [
        ("KillUserProcesses=no\n", "no", true, ""),
        (&spares, "no", true, ""),
        (others, "no", true, ""),
        (kills, "yes", false, scope),
        (kills, "no", true, scope),
        (kills, "no", false, ""),
    ] {
        assert_eq!(
            started(manager, lingers, may),
            wanted,
            "{manager}{lingers} {may}"
        );
    }
    let told = |lingers, may| {
        asked(
            kills,
            lingers,
            may,
            "ends_with_login && ! may_linger && echo told",
        )
    };
    assert_eq!(told("no", false), "told");
    assert_eq!(told("no", true), "");
    assert_eq!(told("yes", false), "");
}

// A process whose first thread has ended, and whose others are still on their way out, holds its ports and its lock: it
// counts as gone when all of it is. As a node's process after a kill, for a moment.
#[test]
fn a_process_is_gone_with_its_last_thread() {
    let program = "import ctypes, threading, time\n\
                   threading.Thread(target=time.sleep, args=(600,)).start()\n\
                   ctypes.CDLL(None).pthread_exit(None)";
    let started = std::process::Command::new("python3")
        .args(["-c", program])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    let Ok(process) = started else {
        assert!(std::env::var_os("CI").is_none(), "python3 is missing");
        return;
    };
    let mut process = Killed(process);
    let pid = process.0.id();
    let state = || run(&format!("{PRELUDE}\nexamine {pid}; echo $NOW_STATE"));
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let until = |is_so: &dyn Fn() -> bool| {
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !is_so() {
            assert!(std::time::Instant::now() < give_up, "{}", stat());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    until(&|| stat().contains(") Z "));
    assert_eq!(state(), "running\n");
    process.0.kill().unwrap();
    until(&|| state() == "gone\n"); // Before anybody has waited for it.
}

// A release that tells systemd nothing of its loop is not watched for that: it would be taken for stuck.
#[test]
fn an_earlier_release_is_not_watched() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("raft-node");
    let unit = "[Service]\nWatchdogSec=30\nUser=x";
    for (help, left) in [
        (
            "with WatchdogSec= also, that it goes on",
            "[Service]\nWatchdogSec=30\nUser=x\n",
        ),
        ("when it is ready", "[Service]\nUser=x\n"),
    ] {
        std::fs::write(&program, format!("#!/bin/sh\necho '{help}'\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let watched = call("watched", [unit, program.to_str().unwrap()]);
        assert_eq!(run(&format!("{SYSTEMD}\n{watched}\n")), left);
    }
}
