//! How much memory the process takes.

use std::fs;

/// What the process has in RAM; `None` where the system does not tell in this way.
pub(super) fn resident_bytes() -> Option<u64> {
    resident_in(&fs::read_to_string("/proc/self/status").ok()?)
}

/// What a `/proc/<pid>/status` says of it.
fn resident_in(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The kernel's line is read; a text without it tells nothing.
    #[test]
    fn resident_memory_is_read() {
        let status = "Name:\traft-node\nVmPeak:\t   90 kB\nVmRSS:\t   7300 kB\n";
        assert_eq!(resident_in(status), Some(7300 * 1024));
        assert_eq!(resident_in("Name:\traft-node\n"), None);
        assert!(resident_bytes().is_none_or(|bytes| bytes > 1 << 20));
    }
}
