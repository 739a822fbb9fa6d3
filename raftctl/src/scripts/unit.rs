//! A node as a systemd unit, as text. Pure.
//!
//! systemd starts a small script, which writes the pid file and becomes the node: so a node is
//! found, killed and paused in the same way with systemd and without it. A node that was killed or
//! stopped by an operator is held: a file keeps systemd from starting it again, after a second or
//! at the next boot, until an operator does. A node that ends by itself with an error is started
//! again, and so is one whose loop has not made a step for long. A pause is no such case: whoever freezes a
//! node has systemd wait for it (`unwatch` in systemd.sh).

use super::layout::NodeLayout;
use super::shell::quote;

/// The user that nodes run as. Made where it is missing.
pub const USER: &str = "raftkv";

/// A node that fails this often within [`FAILURES_WITHIN_SECONDS`] is left alone.
const FAILURES_MAX: u32 = 5;
const FAILURES_WITHIN_SECONDS: u32 = 60;

/// A node with a large log may take a while until it is ready.
const START_SECONDS_MAX: u32 = 600;
/// What a node may take to hand over, flush and exit before systemd kills it.
const STOP_SECONDS_MAX: u32 = 20;

/// After such a time without a step of its loop, a node is stuck, and systemd starts it anew. Long enough for a machine
/// that is busy with other things, and for the end of a node, in which nothing is told: what others need of it they
/// have from its successor long before.
const WATCHDOG_SECONDS: u32 = 30;
const _: () = assert!(WATCHDOG_SECONDS > STOP_SECONDS_MAX);

/// Takes the watch from a node that is frozen, until it goes on. systemd lets nobody outside of the unit say so, nor is there
/// another way to change that of a unit that runs; so it is what the unit runs to be reloaded.
const UNWATCH: &str = "systemd-notify WATCHDOG_USEC=0";

/// What a node can't do any more: gain rights, see other processes' files, write anywhere but in
/// the cluster's own folder, speak anything but TCP and UDP, load or change code. `systemd-analyze security`
/// gives it a mark, which a test holds. What is left out of it, and why: the launcher reads the id of the boot
/// (`ProcSubset`), containers may know no users of their own (`PrivateUsers`), and clients come from anywhere.
const HARDENING: &str = "\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
RemoveIPC=yes
PrivateMounts=yes
ProtectProc=invisible
UMask=0027
LimitNOFILE=65536
";

/// The unit of a node. Where the folder of its cluster lies on a disk of its own, the node waits for the
/// disk at boot, and never writes to the folder below it.
#[must_use]
pub fn unit(layout: &NodeLayout) -> String {
    let id = layout.id;
    let run = layout.pid_file.trim_end_matches(".pid");
    let (run, base) = (escape(run), escape(&layout.base));
    format!(
        "# Written by raftctl, and written again by `raftctl up`.\n\
         [Unit]\n\
         Description=Raft key-value store, node {id} in {base}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         RequiresMountsFor=\"{base}\"\n\
         ConditionPathExists=!{run}.held\n\
         StartLimitIntervalSec={FAILURES_WITHIN_SECONDS}\n\
         StartLimitBurst={FAILURES_MAX}\n\
         \n\
         [Service]\n\
         Type=notify\n\
         NotifyAccess=exec\n\
         User={USER}\n\
         ExecStart=/bin/sh \"{run}.launch\"\n\
         Restart=on-failure\n\
         RestartSec=1\n\
         RestartPreventExitStatus=2 3\n\
         TimeoutStartSec={START_SECONDS_MAX}\n\
         TimeoutStopSec={STOP_SECONDS_MAX}\n\
         WatchdogSec={WATCHDOG_SECONDS}\n\
         ExecReload={UNWATCH}\n\
         ReadWritePaths=\"{base}\"\n\
         {HARDENING}\
         \n\
         [Install]\n\
         WantedBy=multi-user.target"
    )
}

/// systemd has specifiers of its own.
fn escape(path: &str) -> String {
    path.replace('%', "%%").replace('"', "\\\"")
}

/// The script that becomes the node, which `executable` names. What keeps it from that is told in the node's output; where
/// trying again can't help it ends with status 2, after which systemd does not.
#[must_use]
pub fn launch(layout: &NodeLayout, executable: &str) -> String {
    let (pid_file, output) = (quote(&layout.pid_file), quote(&layout.output_file));
    let current = quote(executable);
    let arguments = quote(&format!("@{}", layout.args_file));
    let say = |text: String| format!("echo {}", quote(&format!("raft-node {text}")));
    let missing = say(format!(
        "is not there, or {USER} may not run it ({executable}); `raftctl up` brings it"
    ));
    let not_whole = say("was not started: its release is not whole; `raftctl up` brings it".into());
    let no_record = say(format!(
        "was not started: {} can't be written",
        layout.pid_file
    ));
    let seen = quote(&format!(
        "{}.data",
        layout.pid_file.trim_end_matches(".pid")
    ));
    let log = quote(&format!("{}/logs.txt", layout.data_dir));
    format!(
        "# Written by raftctl: becomes node {}.\n\
         [ ! -f {output} ] || mv -f {output} {output}.1\n\
         exec >{output} 2>&1 </dev/null\n\
         if [ -e {seen} ] && [ ! -s {log} ]; then\n  \
           echo 'raft-node was not started: the log of node {} is gone; `raftctl plan` says more'\n  \
           exit 2\n\
         fi\n\
         if ! executable=$(readlink -f {current}) || [ ! -x \"$executable\" ]; then\n  \
           {missing}\n  \
           exit 2\n\
         fi\n\
         if ! sha256=$(cat \"${{executable%/*}}/sha256\"); then\n  \
           {not_whole}\n  \
           exit 2\n\
         fi\n\
         IFS= read -r stat <\"/proc/$$/stat\"\n\
         set -- ${{stat##*) }}\n\
         printf 'pid=%s\\nstart=%s\\nboot=%s\\nexecutable=%s\\nsha256=%s\\n' \"$$\" \"${{20}}\" \\\n  \
           \"$(cat /proc/sys/kernel/random/boot_id)\" \"$executable\" \"$sha256\" >{pid_file}.new &&\n  \
           mv -f {pid_file}.new {pid_file} || {{\n  \
           {no_record}\n  \
           exit 1\n\
         }}\n\
         cd / && exec \"$executable\" {arguments}",
        layout.id, layout.id
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripts::layout::HostLayout;

    // A killed node is not started again behind the operator's back, one that fails is; and the
    // node may write to its cluster's folder alone.
    #[test]
    fn a_unit_supervises_and_confines() {
        let host = HostLayout::remote("/opt/raftkv/demo").with_units("demo");
        let node = host.node(3);
        assert_eq!(node.unit.as_deref(), Some("raftkv-demo-3.service"));
        let text = unit(&node);
        for line in [
            "ConditionPathExists=!/opt/raftkv/demo/run/node_3.held",
            "Type=notify",
            "User=raftkv",
            "ExecStart=/bin/sh \"/opt/raftkv/demo/run/node_3.launch\"",
            "Restart=on-failure",
            "WatchdogSec=30",
            "NotifyAccess=exec",
            "ReadWritePaths=\"/opt/raftkv/demo\"",
            "RequiresMountsFor=\"/opt/raftkv/demo\"",
            "ProtectSystem=strict",
            "NoNewPrivileges=yes",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
    }

    // What systemd starts is a script that a POSIX shell can read, and it ends as the node.
    #[test]
    fn a_launcher_becomes_the_node() {
        let host = HostLayout::remote("/opt/my kv/demo");
        let text = launch(&host.node(3), &host.current_executable());
        let parsed = std::process::Command::new("sh")
            .args(["-n", "-c", &text])
            .status();
        assert!(parsed.unwrap().success(), "{text}");
        let last = text.lines().next_back().unwrap();
        assert_eq!(
            last,
            "cd / && exec \"$executable\" '@/opt/my kv/demo/run/node_3.args'"
        );
    }

    // What keeps a launcher from becoming the node is told where the node's output is, and not tried
    // again where that is in vain.
    #[test]
    fn a_launcher_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let host = HostLayout::remote(folder.path().to_str().unwrap());
        let node = host.node(3);
        for name in ["run", "bin/releases/0123456789ab"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        std::os::unix::fs::symlink("releases/0123456789ab", path("bin/current")).unwrap();
        let ends = || {
            let script = launch(&node, &host.current_executable());
            let status = std::process::Command::new("sh")
                .args(["-c", &script])
                .status();
            let said = std::fs::read_to_string(&node.output_file).unwrap();
            (status.unwrap().code().unwrap(), said)
        };
        let (code, said) = ends();
        assert!(said.starts_with("raft-node is not there, or"), "{said}");
        assert!(said.ends_with("`raftctl up` brings it\n"), "{said}");
        assert_eq!(code, 2);
        std::fs::write(path("bin/current/raft-node"), "#!/bin/sh\necho runs $1\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path("bin/current/raft-node"), mode).unwrap();
        let (code, said) = ends();
        assert!(said.contains("its release is not whole"), "{said}");
        assert_eq!(code, 2);
        std::fs::write(path("bin/current/sha256"), "0123456789abcdef\n").unwrap();
        assert_eq!(ends(), (0, format!("runs @{}\n", node.args_file)));
        std::fs::create_dir(format!("{}.new", node.pid_file)).unwrap();
        let (code, said) = ends();
        assert!(said.contains("node_3.pid can't be written"), "{said}");
        assert_eq!(code, 1);
    }
}
