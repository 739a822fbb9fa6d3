//! The scripts that look after nodes, as text. Pure: nothing here runs anything.
//!
//! Each script is a prelude of shell functions and a few calls of them, one a node, so that all
//! nodes of a host are served by one script. They need a POSIX shell, coreutils, `grep` and
//! util-linux or `nohup`; no procps, and no `ps` where there is `/proc`.
//!
//! A script answers with lines `<node>.<key>=<value>` (and `host.<key>=<value>`), and ends with
//! [`END`]. A process is always found through its pid file, and is the right one only if its start
//! time, the machine's boot and its executable agree with it; never by its name.

pub mod certificates;
pub mod directories;
pub mod layout;
pub mod shell;
pub mod unit;

use layout::NodeLayout;
use shell::{END, call, quote};

/// The status of [`fetch`] where the file does not exist.
pub const NO_SUCH_FILE: i32 = 66;

/// The option that tells a node the id of its cluster.
pub const CLUSTER_ID: &str = "--cluster-id";

/// The option that tells a node how much its log grows between two snapshots.
pub const SNAPSHOT_LOG: &str = "--snapshot-log-kib";

/// The option that says whether the end of a process that is known for certain counts for anything.
pub const PROOF_OF_DEATH: &str = "--proof-of-death";

/// The option that holds a cluster at a format.
pub const FORMAT_MAX: &str = "--format-max";

/// The option that tells a node where to listen for scrapers of metrics.
pub const METRICS_LISTEN: &str = "--metrics-listen";

/// The option of a node that joins a cluster which runs. An older release must not do without: it would take
/// itself for a voter.
pub const JOIN: &str = "--join";

/// The option that has a node speak TLS.
pub const TLS: &str = "--tls";

/// The option that has it speak clear text as well.
pub const TLS_OPTIONAL: &str = "--tls-optional";

/// Options that earlier versions know nothing of, and do without: `fitting` in start.sh leaves them out.
pub const LATER: [&str; 5] = [
    CLUSTER_ID,
    SNAPSHOT_LOG,
    FORMAT_MAX,
    METRICS_LISTEN,
    PROOF_OF_DEATH,
];

/// How many lines of a node's output are shown when it does not come up.
pub const TAIL_LINES: u32 = 20;

const PRELUDE: &str = include_str!("prelude.sh");
const START: &str = include_str!("start.sh");
/// Whether what a login leaves behind outlives it, where systemd counts sessions.
pub const LINGER: &str = include_str!("linger.sh");
const SYSTEMD: &str = include_str!("systemd.sh");
const PORTS: &str = include_str!("ports.sh");

/// A signal that nodes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeSignal {
    /// SIGKILL: dead at once, as in a crash.
    Kill,
    /// SIGTERM: hand over leadership, flush, exit.
    Stop,
    /// SIGSTOP: alive, but doing nothing.
    Pause,
    /// SIGCONT.
    Resume,
}

fn assemble(parts: &[&str], calls: &[String]) -> String {
    let mut script = PRELUDE.to_owned();
    for part in parts {
        script.push_str(part);
    }
    for call in calls {
        script.push_str(call);
        script.push('\n');
    }
    script.push_str("echo ");
    script.push_str(END);
    script.push('\n');
    script
}

/// A node to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartNode {
    /// Where it lives.
    pub layout: NodeLayout,
    /// The binary it is started with.
    pub executable: String,
    /// Its command line without the program.
    pub arguments: Vec<String>,
    /// sha256 of the binary: a node that runs another one has to be restarted.
    pub sha256: String,
}

/// Starts nodes that do not run. One that runs, or is paused, is left alone; `started` says so.
/// Answers `started=yes|no`, then what [`facts`] answers of a node.
#[must_use]
pub fn start(nodes: &[StartNode]) -> String {
    let first = nodes.first().map(|node| node.layout.pid_file.as_str());
    let run_dir = first.and_then(|pid_file| Some(pid_file.rsplit_once('/')?.0));
    let mut calls: Vec<String> = run_dir
        .map(|folder| call("alone", [folder]))
        .into_iter()
        .collect();
    for node in nodes {
        let layout = &node.layout;
        let arguments = node.arguments.iter().map(String::as_str);
        if let Some(name) = &layout.unit {
            let words = [
                name.as_str(),
                unit::USER,
                &unit::unit(layout),
                &unit::launch(layout, &node.executable),
                &layout.id.to_string(),
                &layout.pid_file,
                &layout.args_file,
                &layout.data_dir,
                &node.executable,
            ];
            calls.push(call("start_unit", words.into_iter().chain(arguments)));
            continue;
        }
        let words = [
            &layout.id.to_string(),
            &layout.pid_file,
            &layout.args_file,
            &layout.output_file,
            &layout.data_dir,
            &node.executable,
            &node.sha256,
        ];
        calls.push(call(
            "start",
            words.iter().map(|word| word.as_str()).chain(arguments),
        ));
    }
    // Only after all have been started: none waits for another.
    for node in nodes {
        calls.push(call(
            "settle",
            [
                &*node.layout.id.to_string(),
                &node.layout.pid_file,
                &node.layout.args_file,
            ],
        ));
    }
    assemble(
        &[
            LINGER,
            START,
            systemd(nodes.iter().map(|node| &node.layout)),
        ],
        &calls,
    )
}

/// The functions that speak to systemd, where any of the nodes needs them.
fn systemd<'a>(mut nodes: impl Iterator<Item = &'a NodeLayout>) -> &'static str {
    if nodes.any(|node| node.unit.is_some()) {
        SYSTEMD
    } else {
        ""
    }
}

/// The end of a pause, which comes also when nobody is there any more who could end it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thaw {
    /// When nodes go on by themselves.
    pub after_seconds: u64,
    /// Tells it from a later pause of the same node.
    pub mark: String,
}

/// Sends a signal to nodes, to all before it waits for any, and waits until each has obeyed, at
/// most `wait_ms`. With `thaw`, a timer on the host lets them go on in time, unless another signal
/// is sent before that. Answers `was`: the state before; `state`: the state now.
#[must_use]
pub fn signal(
    nodes: &[NodeLayout],
    signal: NodeSignal,
    wait_ms: u64,
    thaw: Option<&Thaw>,
) -> String {
    let (names, wanted) = match signal {
        NodeSignal::Kill => ("KILL", "stopped"),
        // A paused process would take SIGTERM only when it goes on.
        NodeSignal::Stop => ("TERM CONT", "stopped"),
        NodeSignal::Pause => ("STOP", "paused"),
        NodeSignal::Resume => ("CONT", "running"),
    };
    const SEND: &str = r#"
# send ID PID_FILE SIGNAL...
send() {
  id=$1
  find_node "$2"
  shift 2
  echo "$id.was=$STATE"
  [ "$STATE" != stopped ] || return 0
  for name in "$@"; do kill -s "$name" "$PID" || return 0; done
}

# obey ID PID_FILE STATE TENTHS_OF_A_SECOND [UNIT]
obey() {
  look_up "$2"
  [ "$STATE" = stopped ] || wait_until "$3" "$4" "$2" || :
  if [ "$3" = stopped ] && [ "$ALIVE" = no ] && [ -n "${5-}" ]; then
    # systemd may have begun to start it before that was forbidden.
    cancel "$5"
    look_up "$2"
  fi
  if [ "$3" = paused ] && [ "$STATE" = paused ] && [ -n "${5-}" ]; then
    # It would be started anew in the middle of its pause.
    unwatch "$5" || { kill -s CONT "$PID"; STATE=running; }
  fi
  # Alive, and not the node: it must not be forgotten, nor called stopped.
  [ "$STATE" != stopped ] || [ "$ALIVE" = no ] || STATE=running
  # A process that was told to end and did leaves nothing behind.
  if [ "$3" = stopped ] && [ "$STATE" = stopped ]; then rm -f "$2"; fi
  echo "$1.state=$STATE"
}
"#;
    let mut calls = Vec::new();
    if wanted == "stopped" {
        let held = nodes.iter().filter(|node| node.unit.is_some());
        calls.extend(held.map(|node| call("hold", [node.pid_file.as_str()])));
    }
    // First: a connection that breaks now must not leave a node frozen.
    let limits = nodes.iter().map(|node| limit(node, thaw));
    let is_pause = signal == NodeSignal::Pause;
    calls.extend(limits.clone().filter(|_| is_pause));
    for node in nodes {
        let id = node.id.to_string();
        let fixed = [id.as_str(), &node.pid_file];
        calls.push(call("send", fixed.into_iter().chain(names.split(' '))));
    }
    // Last, where it lets them go on: until then a timer may have to do it.
    calls.extend(limits.filter(|_| !is_pause));
    let tenths = wait_ms.div_ceil(100).to_string();
    for node in nodes {
        let id = node.id.to_string();
        let unit = node.unit.as_deref();
        let fixed = [&*id, &node.pid_file, wanted, &tenths];
        calls.push(call("obey", fixed.into_iter().chain(unit)));
    }
    assemble(&[SEND, LIMIT, systemd(nodes.iter())], &calls)
}

const LIMIT: &str = r#"
# limit PID_FILE MARK SCRIPT: what is frozen now goes on in time. A session of its own, as for nodes.
limit() {
  find_node "$1"
  [ "$STATE" != stopped ] || return 0
  # Made in the folder above: in this one nodes may have laid a link.
  new=${1%/*/*}/.${1##*/}.thaw.new
  printf '%s\n' "$2" >"$new" && rm -f "${1%.pid}.thaw" && mv -f "$new" "${1%.pid}.thaw" || exit 1
  if command -v setsid >/dev/null 2>&1; then launcher=setsid; else launcher=nohup; fi
  $launcher sh -c "$3" </dev/null >/dev/null 2>&1 &
}

# no_limit PID_FILE: what comes now is not undone by a timer of before.
no_limit() {
  rm -f "${1%.pid}.thaw"
}
"#;

/// Bounds what is to be sent to a node, or takes an earlier bound away.
fn limit(node: &NodeLayout, thaw: Option<&Thaw>) -> String {
    const THAW: &str = r#"
# thaw SECONDS PID_FILE MARK: looks every second whether it is still wanted, so that it is gone soon
# where it is not.
thaw() {
  left=$1
  while mark=; read -r mark 2>/dev/null <"${2%.pid}.thaw"; [ "$mark" = "$3" ]; do
    if [ "$left" -le 0 ]; then
      look_up "$2"
      [ "$STATE" != paused ] || kill -s CONT "$PID"
      rm -f "${2%.pid}.thaw"
      return 0
    fi
    sleep 1
    left=$((left - 1))
  done
}
"#;
    let Some(thaw) = thaw else {
        return call("no_limit", [node.pid_file.as_str()]);
    };
    let seconds = thaw.after_seconds.to_string();
    let timer = call("thaw", [&*seconds, &node.pid_file, &thaw.mark]);
    let timer = format!("{PRELUDE}{THAW}{timer}\n");
    call("limit", [&*node.pid_file, &thaw.mark, &timer])
}

/// A node to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookAt {
    /// Where it lives.
    pub layout: NodeLayout,
    /// The ports that it needs, where it matters whether someone else has them.
    pub ports: Vec<u16>,
    /// The table of its packet filter, on hosts that can have one.
    pub filter: Option<String>,
}

/// Looks at a host: `host.system`, `host.machine`, `host.disk_free_kb`, where they can be seen
/// `host.release`, `host.previous`, `host.libc`, `host.init` and `host.time_ms`, and of each node `state`
/// (running, paused, stopped), `record` (whether there is a pid file), `data` (present, absent, or
/// lost: it was seen before), `cluster_id` and `format` where its files say them, `certificate` and `trusted` (a line for each of the files), while it lives `pid`, `executable`, `sha256` (of the binary it was started with) and, an
/// `argument` line each, what it was last started with.
///
/// For a node that does not run, `port_taken=<port> <pid> <executable>` tells which of its ports
/// another process listens on, with `?` for what can't be seen. `filtered=yes` is said of a node
/// that a packet filter cuts off.
#[must_use]
pub fn facts(base: &str, nodes: &[LookAt]) -> String {
    const FACTS: &str = r#"
host() {
  echo "host.system=$(uname -s)"
  echo "host.machine=$(uname -m)"
  at=$1
  while [ ! -d "$at" ]; do at=$(dirname "$at"); done
  set -- $(df -Pk "$at" | tail -n 1)
  echo "host.disk_free_kb=$4"
}

# setting BASE: what matters where binaries are shipped; each where it can be seen.
setting() {
  release "$1" current release
  release "$1" previous previous
  [ ! -r "$1/seen" ] || echo "host.seen=$(cat "$1/seen")"
  libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) ||
    libc=$(ldd --version 2>&1 | sed -n 's/^\(musl libc\).*/\1/p')
  [ -z "$libc" ] || echo "host.libc=$libc"
  [ ! -r /proc/1/comm ] || echo "host.init=$(cat /proc/1/comm)"
  # Not every `date` knows milliseconds.
  now=$(date +%s%3N)
  case $now in *[!0-9]*) now=$(date +%s)500 ;; esac
  echo "host.time_ms=$now"
}

# release BASE LINK KEY: where it leads to a release that is there as a whole.
release() {
  at=$1/bin/$(readlink "$1/bin/$2" 2>/dev/null)
  if [ -x "$at/raft-node" ] && [ -s "$at/sha256" ]; then echo "host.$3=${at##*/}"; fi
}

# data ID DATA_DIR PID_FILE: a log that has been seen is remembered apart from it.
data() {
  seen=${3%.pid}.data
  if [ -f "$2/logs.txt" ] && [ -s "$2/logs.txt" ]; then
    # Never what someone else's link leads to.
    [ -e "$seen" ] || [ ! -w "${seen%/*}" ] || (set -C && : >"$seen") 2>/dev/null || :
    echo "$1.data=present"
  elif [ -e "$seen" ]; then
    echo "$1.data=lost"
  else
    echo "$1.data=absent"
  fi
}

# names ID DATA_DIR: the id of its cluster, and the format of its files, where they say it. Only ever digits.
names() {
  [ -f "$2/metadata.txt" ] && [ -r "$2/metadata.txt" ] || return 0
  sed -n "s/^clusterId \\([0-9a-f]*\\)\$/$1.cluster_id=\\1/p
    1s/^format \\([0-9]*\\) .*\$/$1.format=\\1/p" "$2/metadata.txt"
}

# certificates ID TLS_DIR: what it was given, which is no secret; without its key it is of no use.
certificates() {
  [ -f "$2/node.key" ] || return 0
  lines "$1.certificate" "$2/node.pem"
  lines "$1.trusted" "$2/ca.pem"
}

# filtered ID TABLE: only root sees tables.
filtered() {
  [ "$(id -u)" = 0 ] && command -v nft >/dev/null || return 0
  ! nft list table inet "$2" >/dev/null 2>&1 || echo "$1.filtered=yes"
}
"#;
    let mut calls = vec![call("host", [base]), call("setting", [base])];
    for LookAt {
        layout: node,
        ports,
        filter,
    } in nodes
    {
        let id = node.id.to_string();
        calls.push(call("report", [&*id, &node.pid_file, &node.args_file]));
        calls.push(call("data", [&*id, &node.data_dir, &node.pid_file]));
        calls.push(call("names", [&*id, &node.data_dir]));
        calls.push(call("certificates", [&*id, &node.tls_dir]));
        if !ports.is_empty() {
            let ports: Vec<String> = ports.iter().map(|port| format!("{port:04X}")).collect();
            calls.push(call("ports", [&*id, &node.pid_file, &ports.join("|")]));
        }
        calls.extend(filter.iter().map(|table| call("filtered", [&*id, table])));
    }
    assemble(&[FACTS, PORTS], &calls)
}

/// The end of what nodes printed, as repeated `tail` lines.
#[must_use]
pub fn tail(nodes: &[NodeLayout]) -> String {
    const TAIL: &str = r#"
tail_of() {
  [ -r "$2" ] || return 0
  tail -n "$3" "$2" | cut -c 1-500 | sed "s/^/$1.tail=/"
}
"#;
    let lines = TAIL_LINES.to_string();
    let calls: Vec<String> = nodes
        .iter()
        .map(|node| {
            call(
                "tail_of",
                [&*node.id.to_string(), &node.output_file, &lines],
            )
        })
        .collect();
    assemble(&[TAIL], &calls)
}

/// Streams files of a node's folder, one after the other, to standard output, and nothing else:
/// the one kind of script without [`END`]. Those that do not exist are skipped; with none there,
/// the status is [`NO_SUCH_FILE`].
#[must_use]
pub fn fetch(node: &NodeLayout, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
    let folder = quote(&node.data_dir);
    format!(
        "found=no\n\
         for name in {}; do\n  \
           file={folder}/$name\n  \
           [ -f \"$file\" ] || continue\n  \
           found=yes\n  \
           cat \"$file\" || exit 1\n\
         done\n\
         [ $found = yes ] || exit {NO_SUCH_FILE}\n",
        names.join(" ")
    )
}

/// Removes the pid files of nodes that do not run, which a crash leaves behind. Answers
/// `cleaned=yes|no`.
#[must_use]
pub fn clean(nodes: &[NodeLayout]) -> String {
    const CLEAN: &str = r#"
clean() {
  look_up "$2"
  if [ "$RECORD" = present ] && [ "$ALIVE" = no ]; then
    rm -f "$2"
    echo "$1.cleaned=yes"
  else
    echo "$1.cleaned=no"
  fi
}
"#;
    let calls: Vec<String> = nodes
        .iter()
        .map(|node| call("clean", [&*node.id.to_string(), &node.pid_file]))
        .collect();
    assemble(&[CLEAN], &calls)
}

/// Takes away what starts nodes that belong to the cluster no more: pid files, arguments, units. What they wrote
/// themselves stays. One that runs is left as it is.
#[must_use]
pub fn retire(nodes: &[NodeLayout]) -> String {
    const RETIRE: &str = r#"
# retire PID_FILE ARGS_FILE
retire() {
  look_up "$1"
  [ "$ALIVE" = no ] || return 0
  rm -f "$1" "$2" "${1%.pid}.data" "${1%.pid}.thaw"
}
"#;
    let mut calls = Vec::new();
    for node in nodes {
        if let Some(name) = &node.unit {
            calls.push(call("remove_unit", [name.as_str(), &node.pid_file]));
        }
        calls.push(call("retire", [&*node.pid_file, &node.args_file]));
    }
    assemble(&[RETIRE, systemd(nodes.iter())], &calls)
}

/// Writes down on a host which nodes of the cluster have had a log, so that whoever comes next knows
/// a host that lost its disk from one that is new.
#[must_use]
pub fn remember(base: &str, ids: &[u64]) -> String {
    const REMEMBER: &str = r#"
remember() {
  mkdir -p "$1" && printf '%s\n' "$2" >"$1/seen.new" && mv -f "$1/seen.new" "$1/seen" || exit 1
}
"#;
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    assemble(&[REMEMBER], &[call("remember", [base, &ids.join(" ")])])
}

/// Forgets that nodes have had a log: they may begin with nothing.
#[must_use]
pub fn accept_loss(nodes: &[NodeLayout]) -> String {
    const ACCEPT: &str = r#"
accept_loss() { rm -f "${1%.pid}.data"; }
"#;
    let calls = nodes
        .iter()
        .map(|node| call("accept_loss", [node.pid_file.as_str()]));
    assemble(&[ACCEPT], &calls.collect::<Vec<_>>())
}

/// Deletes all that nodes left on a host, and the folder of pid files with the last of them; where
/// binaries are shipped to it (`base`), those too, and with the last cluster the user that was made
/// for nodes. Refuses a node that lives: answers `purged=yes|no`.
#[must_use]
pub fn purge(nodes: &[NodeLayout], base: Option<&str>) -> String {
    const PURGE: &str = r#"
purge() {
  look_up "$2"
  if [ "$ALIVE" = yes ]; then
    echo "$1.purged=no"
    return 0
  fi
  case $5 in
    */logs_node_"$1")
      rm -rf -- "$5" "${5%/*}/tls_node_$1" "$2" "$3" "$4" "$4.1" "${2%.pid}.data" "${2%.pid}.thaw" && echo "$1.purged=yes"
      rm -f "${2%/*}/starting" "${2%/*/*}/starting"
      rmdir "${2%/*}" 2>/dev/null || :
      ;;
    *) echo "$1.purged=no" ;;
  esac
}

# purge_shared BASE USER: the lock is still held; whoever leaves it removes the empty folders.
purge_shared() {
  case $1 in */raftkv/?* | */.raftkv/?*) ;; *) return 0 ;; esac
  for left in "$1"/logs_node_*; do [ ! -e "$left" ] || return 0; done
  rm -rf -- "$1/bin" "$1/run" "$1/seen" "$1"/.node_*.new
  parent=${1%/*}
  for other in "$parent"/*; do [ "$other" = "$1" ] || [ ! -e "$other" ] || return 0; done
  [ -e "$parent/.made_user" ] || return 0
  ! id -u "$2" >/dev/null 2>&1 || userdel "$2" || return 0
  rm -f "$parent/.made_user"
}
"#;
    let mut calls = Vec::new();
    for node in nodes {
        if let Some(name) = &node.unit {
            calls.push(call("remove_unit", [name.as_str(), &node.pid_file]));
        }
        let id = node.id.to_string();
        let words = [
            &*id,
            &node.pid_file,
            &node.args_file,
            &node.output_file,
            &node.data_dir,
        ];
        calls.push(call("purge", words));
    }
    calls.extend(base.map(|base| call("purge_shared", [base, unit::USER])));
    assemble(&[PURGE, systemd(nodes.iter())], &calls)
}

#[cfg(test)]
mod tests;
