//! What a disk may hold after the power failed.
//!
//! Files and directories are nodes. Each has what is durable and what is pending: bytes and lengths of a file until
//! the file is flushed, names in a directory until the directory is. A cut decides the fate of what is pending.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use crate::MARKS;
use crate::journal::{Journal, Operation};

/// The unit that a disk writes as a whole.
const SECTOR: u64 = 512;

type NodeId = usize;
type Names = BTreeMap<OsString, NodeId>;

/// The content of a directory after a cut.
#[derive(Debug)]
pub struct Image {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>),
    Dir(Names),
}

impl Image {
    /// The image of a cut during operation `cut` of `journal`, which began in a directory like `base`, or an empty
    /// one. What is pending then, that operation included, has its fate drawn from `seed`.
    ///
    /// # Errors
    ///
    /// When `base` cannot be read, or the journal does not fit it.
    pub fn after_cut(base: Option<&Path>, journal: &Journal, cut: usize, seed: u64) -> io::Result<Self> {
        let mut disk = Disk::default();
        disk.add(Node::Dir(Names::new()));
        if let Some(base) = base {
            disk.copy(base, ROOT)?;
        }
        for operation in &journal.operations()[..cut] {
            disk.run(operation, true)?;
        }
        if let Some(operation) = journal.operations().get(cut) {
            disk.run(operation, false)?;
        }
        Ok(disk.cut(&mut Chance::new(seed)))
    }

    /// Writes the image into the empty directory `dir`.
    ///
    /// # Errors
    ///
    /// From the operating system.
    pub fn write_to(&self, dir: &Path) -> io::Result<()> {
        self.write_node(ROOT, dir)
    }

    fn write_node(&self, node: NodeId, path: &Path) -> io::Result<()> {
        match &self.nodes[node] {
            Node::File(bytes) => fs::write(path, bytes),
            Node::Dir(names) => {
                fs::create_dir_all(path)?;
                names.iter().filter(|(name, _)| *name != MARKS).try_for_each(|(name, child)| self.write_node(*child, &path.join(name)))
            }
        }
    }
}

const ROOT: NodeId = 0;

/// A disk in use.
#[derive(Debug, Default)]
struct Disk {
    /// What is durable.
    durable: Vec<Node>,
    /// The names as the program sees them, by directory.
    seen: HashMap<NodeId, Names>,
    /// What is pending for each file.
    pending: HashMap<NodeId, Vec<Pending>>,
    /// Changes of names that are pending, oldest first.
    renames: Vec<Vec<NameChange>>,
    handles: HashMap<u64, NodeId>,
}

#[derive(Debug)]
enum Pending {
    Write { offset: u64, data: Vec<u8> },
    Length(u64),
    Allocate(u64),
}

/// A name in a directory stands for another node, or for none.
#[derive(Debug)]
struct NameChange {
    dir: NodeId,
    name: OsString,
    node: Option<NodeId>,
}

impl Disk {
    fn add(&mut self, node: Node) -> NodeId {
        let id = self.durable.len();
        if matches!(node, Node::Dir(_)) {
            self.seen.insert(id, Names::new());
        }
        self.durable.push(node);
        id
    }

    /// Takes over a directory as it is, durable.
    fn copy(&mut self, from: &Path, dir: NodeId) -> io::Result<()> {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let child = if entry.file_type()?.is_dir() {
                let child = self.add(Node::Dir(Names::new()));
                self.copy(&entry.path(), child)?;
                child
            } else {
                self.add(Node::File(fs::read(entry.path())?))
            };
            self.name(dir, entry.file_name(), Some(child), true);
        }
        Ok(())
    }

    /// Sets a name as the program sees it, and durably if that is asked for.
    fn name(&mut self, dir: NodeId, name: OsString, node: Option<NodeId>, durable: bool) {
        let set = |names: &mut Names| match node {
            Some(node) => names.insert(name.clone(), node),
            None => names.remove(&name),
        };
        set(self.seen.entry(dir).or_default());
        if durable && let Node::Dir(names) = &mut self.durable[dir] {
            set(names);
        }
    }

    fn change_names(&mut self, changes: Vec<NameChange>) {
        for change in &changes {
            self.name(change.dir, change.name.clone(), change.node, false);
        }
        self.renames.push(changes);
    }

    /// The node at `path`, if there is one.
    fn find(&self, path: &Path) -> Option<NodeId> {
        path.iter().try_fold(ROOT, |dir, name| self.seen.get(&dir)?.get(name).copied())
    }

    /// The directory and the name that `path` ends with.
    fn place(&self, path: &Path) -> io::Result<(NodeId, OsString)> {
        let dir = path.parent().and_then(|parent| self.find(parent));
        dir.zip(path.file_name().map(OsString::from)).ok_or_else(|| misfit(path))
    }

    /// Does what the program did. Of what is not `complete`, nothing is durable yet.
    fn run(&mut self, operation: &Operation, complete: bool) -> io::Result<()> {
        match operation {
            Operation::Open { handle, path, created } => {
                let node = self.find(path).filter(|_| !created);
                let node = node.map_or_else(|| self.create(path, Node::File(Vec::new())), Ok)?;
                self.handles.insert(*handle, node);
            }
            Operation::MakeDir { path } => {
                self.create(path, Node::Dir(Names::new()))?;
            }
            Operation::Write { handle, offset, durable, data } => {
                let write = Pending::Write { offset: *offset, data: data.clone() };
                let node = self.handles[handle];
                if *durable && complete {
                    // Only this write is durable: earlier ones elsewhere in the file still wait for a flush.
                    write.apply(&mut self.durable[node]);
                } else {
                    self.pending.entry(node).or_default().push(write);
                }
            }
            Operation::Length { handle, len } => self.delay(*handle, Pending::Length(*len)),
            Operation::Allocate { handle, len } => self.delay(*handle, Pending::Allocate(*len)),
            Operation::Flush { handle } if complete => self.flush(self.handles[handle]),
            Operation::Flush { .. } => {}
            Operation::Rename { from, to } => {
                let node = self.find(from).ok_or_else(|| misfit(from))?;
                let ((old_dir, old), (new_dir, new)) = (self.place(from)?, self.place(to)?);
                self.change_names(vec![
                    NameChange { dir: old_dir, name: old, node: None },
                    NameChange { dir: new_dir, name: new, node: Some(node) },
                ]);
            }
            Operation::Remove { path } => {
                let (dir, name) = self.place(path)?;
                self.change_names(vec![NameChange { dir, name, node: None }]);
            }
        }
        Ok(())
    }

    fn create(&mut self, path: &Path, node: Node) -> io::Result<NodeId> {
        let (dir, name) = self.place(path)?;
        let node = self.add(node);
        self.change_names(vec![NameChange { dir, name, node: Some(node) }]);
        Ok(node)
    }

    fn delay(&mut self, handle: u64, pending: Pending) {
        self.pending.entry(self.handles[&handle]).or_default().push(pending);
    }

    fn flush(&mut self, node: NodeId) {
        for pending in self.pending.remove(&node).unwrap_or_default() {
            pending.apply(&mut self.durable[node]);
        }
        let (due, rest) = self.renames.drain(..).partition(|changes| changes.iter().any(|change| change.dir == node));
        self.renames = rest;
        let due: Vec<Vec<NameChange>> = due;
        for change in due.into_iter().flatten() {
            set_name(&mut self.durable, change);
        }
    }

    /// Decides what becomes of all that is pending.
    fn cut(mut self, chance: &mut Chance) -> Image {
        let fate = chance.below(4);
        let mut nodes = self.durable;
        let mut pending: Vec<_> = self.pending.drain().collect();
        pending.sort_by_key(|(node, _)| *node);
        for (node, pending) in pending {
            for pending in pending {
                match fate {
                    0 => {}
                    1 => pending.apply(&mut nodes[node]),
                    _ => pending.apply_by_chance(&mut nodes[node], chance),
                }
            }
        }
        // A file system with a journal keeps the first few changes of names; another one any of them.
        let first_few = chance.below(self.renames.len() as u64 + 1) as usize;
        let in_order = chance.below(2) == 0;
        for (nth, changes) in self.renames.into_iter().enumerate() {
            let kept = if in_order { nth < first_few } else { chance.below(2) == 0 };
            if kept {
                changes.into_iter().for_each(|change| set_name(&mut nodes, change));
            }
        }
        Image { nodes }
    }
}

fn set_name(nodes: &mut [Node], change: NameChange) {
    if let Node::Dir(names) = &mut nodes[change.dir] {
        match change.node {
            Some(node) => names.insert(change.name, node),
            None => names.remove(&change.name),
        };
    }
}

fn misfit(path: &Path) -> io::Error {
    let reason = format!("the journal names `{}`, which is not there: it began in another directory", path.display());
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

impl Pending {
    fn apply(&self, node: &mut Node) {
        let Node::File(bytes) = node else { return };
        match self {
            Self::Write { offset, data } => put(bytes, *offset, data),
            Self::Length(len) => bytes.resize(*len as usize, 0),
            Self::Allocate(len) => bytes.resize(bytes.len().max(*len as usize), 0),
        }
    }

    /// Applies it, or not, or in part.
    fn apply_by_chance(&self, node: &mut Node, chance: &mut Chance) {
        match (chance.below(3), self, node) {
            (0, ..) => {}
            (1, Self::Write { offset, data }, Node::File(bytes)) => put_sectors(bytes, *offset, data, chance),
            (_, _, node) => self.apply(node),
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let end = offset as usize + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset as usize..end].copy_from_slice(data);
}

/// Puts each sector of `data`, or not.
fn put_sectors(bytes: &mut Vec<u8>, offset: u64, data: &[u8], chance: &mut Chance) {
    let mut at = 0;
    while at < data.len() {
        let here = offset + at as u64;
        let len = (SECTOR - here % SECTOR).min((data.len() - at) as u64) as usize;
        if chance.below(2) == 0 {
            put(bytes, here, &data[at..at + len]);
        }
        at += len;
    }
}

/// Numbers that look random and are the same for the same seed (splitmix64: Steele, Lea & Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
}
