//! Timelines of folders with the files of nodes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::DUMP;
use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::timeline::{CLIENTS_FILE, Clients, Machines, Timeline};

/// A file beside those of nodes that says that all of them ran on one machine.
const ONE_CLOCK: &str = "one-clock.txt";
const ONE_CLOCK_TEXT: &str =
    "The nodes of this folder ran on one machine, so that all their times are of one clock.\n";

/// Notes in a folder with the files of nodes whether these share a clock.
///
/// # Errors
/// The note can't be written, or one of before can't be taken away.
pub fn note_machines(folder: &Path, machines: Machines) -> Result<()> {
    let path = folder.join(ONE_CLOCK);
    let noted = match machines {
        Machines::One => std::fs::write(&path, ONE_CLOCK_TEXT),
        Machines::Several => match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    };
    noted.map_err(|error| Error::file("write", &path, &error))
}

fn machines(folder: &Path) -> Machines {
    match folder.join(ONE_CLOCK).exists() {
        true => Machines::One,
        false => Machines::Several,
    }
}

/// What a page is called.
pub const PAGE: &str = "timeline.html";

/// The nodes whose dump.txt lies in a folder.
///
/// # Errors
/// The folder can't be read.
pub fn nodes_in(folder: &Path) -> Result<Vec<NodeId>> {
    let entries =
        std::fs::read_dir(folder).map_err(|error| Error::file("look into", folder, &error))?;
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::file("look into", folder, &error))?;
        let name = entry.file_name();
        let id = name
            .to_str()
            .and_then(|name| name.strip_prefix("logs_node_")?.parse::<NodeId>().ok());
        ids.extend(id.filter(|_| entry.path().join(DUMP.name).exists()));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// What nodes wrote into a folder, and what clients saw meanwhile where that lies beside.
///
/// # Errors
/// A file can't be read.
pub fn read(folder: &Path, ids: &[NodeId]) -> Result<Timeline> {
    let mut dumps = BTreeMap::new();
    for id in ids {
        dumps.insert(*id, read_dump(&node_folder(folder, *id))?);
    }
    let timeline = Timeline::read(&dumps, machines(folder));
    let path = folder.join(CLIENTS_FILE);
    let clients = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(timeline),
        Err(error) => return Err(Error::file("read", &path, &error)),
    };
    let clients: Clients = serde_json::from_slice(&clients).map_err(|error| {
        Error::Other(format!(
            "{}: {error}; delete it, or run the trial again",
            path.display()
        ))
    })?;
    Ok(timeline.with_clients(clients))
}

/// Writes what clients saw beside the files of the nodes, and the page of both; where that is.
///
/// # Errors
/// A file can't be read or written.
pub fn draw_run(folder: &Path, ids: &[NodeId], title: &str, clients: &Clients) -> Result<PathBuf> {
    let text = format!("{:#}\n", serde_json::json!(clients));
    write_whole(&folder.join(CLIENTS_FILE), &text)?;
    let page = folder.join(PAGE);
    let timeline = read(folder, ids)?;
    write_whole(&page, &timeline.page(title, &links(folder, &page, ids)))?;
    Ok(page)
}

fn node_folder(folder: &Path, id: NodeId) -> PathBuf {
    folder.join(format!("logs_node_{id}"))
}

/// All parts of a node's dump.txt, the oldest first: a folder of a node itself has it in parts.
fn read_dump(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for part in DUMP.parts {
        let path = folder.join(part);
        match std::fs::read(&path) {
            // A line cut within a character is one that tells of no event.
            Ok(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("read", &path, &error)),
        }
    }
    Ok(text)
}

/// Where the files are, seen from the page.
#[must_use]
pub fn links(folder: &Path, page: &Path, ids: &[NodeId]) -> BTreeMap<NodeId, String> {
    let is_beside = page.parent() == Some(folder);
    let base = match is_beside {
        true => PathBuf::new(),
        false => std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
    };
    let link = |id: &NodeId| {
        node_folder(&base, *id)
            .join(DUMP.name)
            .display()
            .to_string()
    };
    ids.iter().map(|id| (*id, link(id))).collect()
}

/// Written aside and renamed: a page under its name is whole.
///
/// # Errors
/// The file can't be written.
pub fn write_whole(path: &Path, text: &str) -> Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".part");
    let aside = PathBuf::from(aside);
    let written = std::fs::write(&aside, text).and_then(|()| std::fs::rename(&aside, path));
    written.map_err(|error| Error::file("write", path, &error))
}
