//! What must hold of any bytes in place of a file: no panic, and what is read is what is there.
//!
//! Most bytes fail at a checksum. So an input whose first byte is odd is taken for lines without their
//! checksums, which are put there.

use crate::kv::ExportStep;
use crate::raft::{HardState, Promise};
use crate::wal::{
    Files, LogWriter, Mark, Metadata, Restored, SnapshotReader, SnapshotWriter, decode_lease,
    decode_promises, encode_lease, encode_promises, promises_are_damaged, recover,
};

fn split(bytes: &[u8]) -> (bool, &[u8]) {
    match bytes.split_first() {
        Some((first, rest)) => (first % 2 == 1, rest),
        None => (false, bytes),
    }
}

/// Each line with the checksum that goes on from the one before.
fn sealed_lines(bytes: &[u8], mark: &[u8]) -> Vec<u8> {
    let (mut text, mut crc) = (Vec::new(), 0);
    for line in bytes.split(|byte| *byte == b'\n') {
        let covered = [line, mark].concat();
        crc = crc32c::crc32c_append(crc, &covered);
        text.extend_from_slice(&covered);
        text.extend_from_slice(format!("{crc:08x}\n").as_bytes());
    }
    text
}

/// All of it with one checksum behind.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c(bytes);
    [bytes, format!("crc {crc:08x}\n").as_bytes()].concat()
}

fn file(bytes: &[u8]) -> Vec<u8> {
    match split(bytes) {
        (true, lines) => sealed(lines),
        (false, bytes) => bytes.to_vec(),
    }
}

/// `logs.txt`: what is recovered once is recovered again, from the file as it is then and from what is
/// written anew: under a checksum that fits, words may be in a spelling that no node writes.
pub fn logs(bytes: &[u8]) {
    let text = match split(bytes) {
        (true, lines) => sealed_lines(lines, b" crc="),
        (false, bytes) => bytes.to_vec(),
    };
    let hard_state = HardState {
        term: 1,
        voted_for: None,
    };
    let metadata = Metadata {
        hard_state,
        ..Metadata::default()
    };
    let recovered = recover(Files {
        logs: Some(&text),
        metadata: Some(&metadata.encode()),
        ..Files::default()
    });
    let Ok(recovery) = recovered else {
        return;
    };
    let mut after = text.clone();
    after.resize(recovery.log_bytes as usize, 0);
    for mend in &recovery.mends {
        let begin = mend.offset as usize;
        after[begin..begin + mend.bytes.len()].copy_from_slice(&mend.bytes);
    }
    let (mut writer, mut written) = (LogWriter::default(), Vec::new());
    for entry in &recovery.recovered.entries {
        writer.append(entry, &mut written);
    }
    for again in [&after, &written] {
        let again = recover(Files {
            logs: Some(again),
            metadata: Some(&metadata.encode()),
            ..Files::default()
        });
        let again = again.expect("it was read before");
        assert_eq!(again.recovered.entries, recovery.recovered.entries);
        assert!(again.mends.is_empty() && again.torn.is_none() && again.damage.is_none());
    }
    let lost = text.len() > after.len();
    let told = recovery.torn.is_some() || recovery.damage.is_some();
    assert!(!lost || told, "cut off in silence");
}

/// `snapshot.txt`: the same in pieces of any size, and what is read is read again from what is written.
pub fn snapshot(bytes: &[u8]) {
    let (is_lines, rest) = split(bytes);
    let (size, rest) = rest
        .split_first()
        .map_or((1, rest), |(size, rest)| (usize::from(*size).max(1), rest));
    let text = match is_lines {
        true => sealed_lines(rest, b"crc="),
        false => rest.to_vec(),
    };
    let read = |size: usize| {
        let mut reader = SnapshotReader::default();
        let mut pieces = text.chunks(size);
        pieces.try_for_each(|piece| reader.feed(piece))?;
        reader.finish()
    };
    let (whole, in_pieces) = (read(usize::MAX), read(size));
    assert_eq!(
        whole.as_ref().map(|it| it.id).map_err(Clone::clone),
        in_pieces.as_ref().map(|it| it.id).map_err(Clone::clone)
    );
    if let Ok(restored) = whole {
        let written = write(restored);
        let mut reader = SnapshotReader::default();
        reader.feed(&written).expect("as a node writes it");
        let again = reader.finish().expect("as a node writes it");
        assert_eq!(write(again), written);
    }
}

fn write(restored: Restored) -> Vec<u8> {
    let Restored {
        mut store, head, ..
    } = restored;
    assert_eq!(store.begin_export(), head.state);
    let mut text = Vec::new();
    let mut writer = SnapshotWriter::begin(head, &mut text);
    while let ExportStep::Records(records) = store.export_next(3) {
        records.iter().for_each(|it| writer.record(it, &mut text));
    }
    writer.end(&mut text);
    text
}

/// `metadata.txt`: what is read is read again from what is written.
pub fn metadata(bytes: &[u8]) {
    if let Ok(metadata) = Metadata::decode(&file(bytes)) {
        let again = Metadata::decode(&metadata.encode()).expect("as a node writes it");
        assert_eq!(again.encode(), metadata.encode());
    }
}

/// `lease.txt`
pub fn lease(bytes: &[u8]) {
    if let Some(lease_us) = decode_lease(&file(bytes)) {
        assert_eq!(decode_lease(&encode_lease(lease_us)), Some(lease_us));
    }
}

/// `promises.txt`
pub fn promises(bytes: &[u8]) {
    let text = file(bytes);
    let promises: Option<Vec<Promise>> = decode_promises("c", &text);
    assert!(promises.is_none() || !promises_are_damaged(&text));
    if let Some(promises) = promises {
        let again = encode_promises("c", &promises);
        assert_eq!(decode_promises("c", &again), Some(promises));
    }
}

/// `mark.txt`
pub fn mark(bytes: &[u8]) {
    if let Some(mark) = Mark::decode(&file(bytes)) {
        assert_eq!(Mark::decode(&mark.encode()), Some(mark));
    }
}

/// `cluster.yaml`: read, or each thing that is wrong with its line.
pub fn cluster_yaml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let directory = std::path::PathBuf::from("/nowhere");
    if let Err(problems) = crate::cluster::parse(text, "cluster.yaml", directory, &|_| None) {
        assert!(!problems.list.is_empty(), "refused without a reason");
    }
}

/// A scenario file.
pub fn scenario(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let read = crate::scenario::file::parse(text, "fuzz.yaml");
        assert!(read.is_err() || read.is_ok_and(|it| !it.scenario.steps.is_empty()));
    }
}

/// The lines of `dump.txt` and `logs.txt` as raftctl reads them.
pub fn dump(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let all = crate::text::records::parse_dump(text, None);
        let last = crate::text::records::last_time(text);
        if let (Ok(all), Ok(Some(last))) = (all, last) {
            assert_eq!(all.last().map(|record| record.at), Some(last));
        }
        crate::text::records::parse_log(text, &|_| true).ok();
    }
}
