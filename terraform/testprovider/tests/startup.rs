//! The startup script on a real disk: a file behind a loop device, mounted where nobody else sees it.

use harness::{Need, Test, program_is_missing, tests};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::module;

pub fn tests() -> Vec<Test> {
    tests!(
        [LOOP_DEVICES],
        a_disk_is_formatted_once_and_keeps_its_data,
        the_file_system_grows_with_its_disk,
        a_foreign_disk_is_left_alone
    )
}

static LOOP_DEVICES: Need = Need::new(|| {
    let absent = program_is_missing("losetup", "install the package mount");
    absent.or_else(|| {
        let folder = tempfile::tempdir().unwrap();
        match loop_device(folder.path()) {
            Ok(device) => {
                detach(&device);
                None
            }
            Err(why) => Some(format!("no loop device can be had: {why}")),
        }
    })
});

/// A loop device of a file in a folder; why there is none.
fn loop_device(folder: &Path) -> Result<String, String> {
    let file = folder.join("disk");
    std::fs::File::create(&file)
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    let mut losetup = Command::new("losetup");
    let made = losetup.args(["-f", "--show"]).arg(file).output().unwrap();
    if made.status.success() {
        Ok(String::from_utf8(made.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&made.stderr).trim().to_owned())
    }
}

fn detach(device: &str) {
    let detached = Command::new("losetup").args(["-d", device]).status();
    assert!(detached.unwrap().success(), "{device} stays");
}

/// A disk that belongs to one test.
struct Disk {
    folder: tempfile::TempDir,
    device: String,
}

impl Disk {
    /// A blank disk.
    fn new() -> Disk {
        let folder = tempfile::tempdir().unwrap();
        let device = loop_device(folder.path()).unwrap();
        std::fs::create_dir_all(folder.path().join("root/etc/chrony")).unwrap();
        Disk { folder, device }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Runs a script with `startup` in it, in mounts of its own.
    fn run(&self, script: &str) -> Output {
        let startup = module().canonicalize().unwrap().join("startup.sh");
        let script = script.replace("startup", &format!("bash {}", startup.display()));
        Command::new("unshare")
            .args(["--mount", "sh", "-ec", &script])
            .env("RAFT_ROOT", self.root())
            .env("RAFT_DATA_DEVICE", &self.device)
            .current_dir(self.root())
            .output()
            .unwrap()
    }

    fn must_run(&self, script: &str) -> String {
        let output = self.run(script);
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let detached = Command::new("losetup").args(["-d", &self.device]).status();
        assert!(
            detached.is_ok_and(|status| status.success()),
            "{} stays attached",
            self.device
        );
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

// A blank disk is formatted once; what is written to it is there after another boot, and a boot
// changes no file a second time.
fn a_disk_is_formatted_once_and_keeps_its_data() {
    let disk = Disk::new();
    let first = disk.must_run("startup; mountpoint -q opt/raftkv; echo entry >opt/raftkv/logs.txt");
    assert!(first.contains("blank, formatting it"), "{first}");
    assert!(disk.root().join("run/raft-host-ready").exists());
    let fstab = read(&disk.root().join("etc/fstab"));

    let second = disk.must_run("startup; cat opt/raftkv/logs.txt; startup");
    assert!(
        second.contains("kept as it is") && second.contains("\nentry\n"),
        "{second}"
    );
    assert!(!second.contains("formatting"), "{second}");
    assert_eq!(read(&disk.root().join("etc/fstab")), fstab);
    for file in [
        "etc/ssh/sshd_config.d/90-raft.conf",
        "etc/security/limits.d/90-raft.conf",
    ] {
        assert!(disk.root().join(file).exists(), "{file} is missing");
    }
    assert!(
        read(&disk.root().join("etc/chrony/conf.d/90-raft.conf"))
            .contains("metadata.google.internal")
    );
}

// A disk that was enlarged: its file system follows at the next boot, when the disk is mounted before
// the script runs. (Kernels let few containers resize what is mounted, so the program that does it is
// a stand-in.)
fn the_file_system_grows_with_its_disk() {
    let disk = Disk::new();
    let output = disk.must_run(
        "startup >&2
         mkdir bin && printf '#!/bin/sh\necho resize2fs \"$@\" >resized\n' >bin/resize2fs
         chmod +x bin/resize2fs
         PATH=$PWD/bin:$PATH startup >&2
         cat resized",
    );
    assert_eq!(output, format!("resize2fs {}\n", disk.device));
}

// What is on a disk is never destroyed, even where it is nothing that this script knows: it ends
// without the sign that the machine is ready.
fn a_foreign_disk_is_left_alone() {
    let disk = Disk::new();
    disk.must_run("mkswap \"$RAFT_DATA_DEVICE\" >/dev/null");
    let output = disk.run("startup");
    assert!(!output.status.success(), "{output:?}");
    assert!(!disk.root().join("run/raft-host-ready").exists());
    let kept = disk.must_run("blkid --probe \"$RAFT_DATA_DEVICE\"");
    assert!(kept.contains("TYPE=\"swap\""), "{kept}");
}
