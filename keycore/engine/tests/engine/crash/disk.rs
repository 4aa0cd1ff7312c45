//! What a power cut leaves of files.
//!
//! A sync of a file makes its content durable, a sync of a directory the names in it; nothing else does. Of what was not
//! synced, any set of sectors may have reached the disk, in any order, and each file's length may be the old or the new one.
//! Names change in order, as in every journaling file system: a cut leaves the first few of the changes.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use super::recording::Event;

/// What a disk writes at once.
const SECTOR: usize = 512;

/// What reached the disk of all that was not synced.
#[derive(Debug, Clone, Copy)]
pub(super) enum Left {
    Nothing,
    Everything,
    /// Whatever this seed picks.
    Picked(u64),
}

/// Files by number, names by path; each with what is durable and what is under way.
#[derive(Default)]
pub(super) struct Disk {
    files: Vec<File>,
    /// As the running process sees it.
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    name_changes: Vec<(PathBuf, Option<Node>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Directory,
    File(usize),
}

#[derive(Default)]
struct File {
    durable: Vec<u8>,
    under_way: Vec<Change>,
    /// As the running process sees it.
    length: u64,
}

enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

/// Directories (no content) and files.
#[derive(Debug, Clone)]
pub(super) struct Image(BTreeMap<PathBuf, Option<Vec<u8>>>);

impl Disk {
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Acknowledged(_) => {}
            Event::Made(path) => drop(self.file(path)),
            Event::MadeDirectory(path) => self.name(path, Some(Node::Directory)),
            Event::Written { path, offset, bytes } => {
                let file = self.file(path);
                let offset = offset.unwrap_or(file.length);
                file.length = file.length.max(offset + bytes.len() as u64);
                let offset = usize::try_from(offset).unwrap();
                file.under_way.push(Change::Write { offset, bytes: bytes.clone() });
            }
            Event::Resized { path, length } => {
                let file = self.file(path);
                file.length = *length;
                file.under_way.push(Change::Resize(usize::try_from(*length).unwrap()));
            }
            Event::Synced(path) => self.sync(path),
            Event::Unlinked(path) => self.name(path, None),
            Event::Renamed { from, to } => {
                let node = self.names.get(from).copied();
                self.name(to, node);
                self.name(from, None);
            }
        }
    }

    /// What is found after the power is back.
    pub(super) fn after_power_cut(&self, left: Left) -> Image {
        let mut chance = Chance(match left {
            Left::Picked(seed) => seed,
            Left::Nothing | Left::Everything => 0,
        });
        let changes = match left {
            Left::Nothing => 0,
            Left::Everything => self.name_changes.len(),
            Left::Picked(_) => chance.below(self.name_changes.len() + 1),
        };
        let mut names = self.durable_names.clone();
        for (path, node) in &self.name_changes[..changes] {
            rename(&mut names, path, *node);
        }
        let content = |(path, node): (PathBuf, Node)| match node {
            Node::Directory => (path, None),
            Node::File(_) if is_shared_memory(&path) => {
                let garbage = (0..32 * 1024 / 8).flat_map(|_| chance.next().to_le_bytes()).collect();
                (path, Some(garbage))
            }
            Node::File(number) => {
                let content = self.files[number].after_power_cut(left, &mut chance);
                (path, Some(content))
            }
        };
        Image(names.into_iter().map(content).collect())
    }

    fn sync(&mut self, path: &Path) {
        match self.names.get(path) {
            Some(&Node::File(number)) => {
                let file = &mut self.files[number];
                for change in std::mem::take(&mut file.under_way) {
                    change.apply_to(&mut file.durable);
                }
            }
            // The history's own directory has no name here.
            _ => {
                let durable = &mut self.durable_names;
                self.name_changes.retain(|(name, node)| {
                    let elsewhere = name.parent() != Some(path);
                    if !elsewhere {
                        rename(durable, name, *node);
                    }
                    elsewhere
                });
            }
        }
    }

    fn file(&mut self, path: &Path) -> &mut File {
        let number = match self.names.get(path) {
            Some(&Node::File(number)) => number,
            _ => {
                self.files.push(File::default());
                self.name(path, Some(Node::File(self.files.len() - 1)));
                self.files.len() - 1
            }
        };
        &mut self.files[number]
    }

    fn name(&mut self, path: &Path, node: Option<Node>) {
        rename(&mut self.names, path, node);
        self.name_changes.push((path.to_owned(), node));
    }
}

/// SQLite's index of the WAL is memory that processes share; on the disk is whatever it may be.
fn is_shared_memory(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "db-shm")
}

fn rename(names: &mut BTreeMap<PathBuf, Node>, path: &Path, node: Option<Node>) {
    match node {
        Some(node) => names.insert(path.to_owned(), node),
        None => names.remove(path),
    };
}

impl File {
    fn after_power_cut(&self, left: Left, chance: &mut Chance) -> Vec<u8> {
        let mut content = self.durable.clone();
        match left {
            Left::Nothing => {}
            Left::Everything => self.under_way.iter().for_each(|change| change.apply_to(&mut content)),
            Left::Picked(_) => {
                // Mostly one or the other, so that both sparse and nearly complete writes are seen.
                let eighths = chance.below(9);
                for change in &self.under_way {
                    change.apply_some_to(&mut content, chance, eighths);
                }
            }
        }
        content
    }
}

impl Change {
    fn apply_to(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => write(content, *offset, bytes),
            Self::Resize(length) => content.resize(*length, 0),
        }
    }

    /// Each sector with a chance of `eighths` in eight.
    fn apply_some_to(&self, content: &mut Vec<u8>, chance: &mut Chance, eighths: usize) {
        match self {
            Self::Write { offset, bytes } => {
                let mut at = 0;
                while at < bytes.len() {
                    let sector_end = ((offset + at) / SECTOR + 1) * SECTOR - offset;
                    let end = sector_end.min(bytes.len());
                    if chance.below(8) < eighths {
                        write(content, offset + at, &bytes[at..end]);
                    }
                    at = end;
                }
            }
            Self::Resize(length) if chance.below(8) < eighths => content.resize(*length, 0),
            Self::Resize(_) => {}
        }
    }
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

impl Image {
    /// Tells different disks apart; the garbage of the shared memory makes no difference.
    pub(super) fn digest(&self) -> Vec<u8> {
        let mut hash = Context::new(&SHA256);
        for (path, content) in &self.0 {
            hash.update(path.as_os_str().as_encoded_bytes());
            if let Some(content) = content.as_ref().filter(|_| !is_shared_memory(path)) {
                hash.update(&content.len().to_le_bytes());
                hash.update(content);
            }
        }
        hash.finish().as_ref().to_vec()
    }

    pub(super) fn write_to(&self, directory: &Path) {
        for (path, content) in &self.0 {
            let path = directory.join(path);
            // A name in a directory that is lost is lost with it.
            if !path.parent().is_some_and(Path::is_dir) {
                continue;
            }
            let mode = match content {
                None => std::fs::create_dir(&path).map(|()| 0o700),
                Some(content) => std::fs::write(&path, content).map(|()| 0o600),
            };
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode.unwrap())).unwrap();
        }
    }
}

/// SplitMix64: the same seed, the same disk.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}
