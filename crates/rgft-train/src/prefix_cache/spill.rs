//! An anonymous temporary file of slots. It has no name from the moment it exists, so the system takes its space back when
//! the process ends, however it ends. Read and written at positions rather than mapped: a mapping needs `unsafe`, turns a
//! full disk into a signal, and gains nothing, because the same page cache serves both.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A piece of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slot {
    offset: u64,
    /// Bytes.
    pub(super) len: usize,
}

/// The file, and which slots of it are free.
#[derive(Debug)]
pub(super) struct Spill {
    folder: PathBuf,
    /// Made when it is first written to.
    file: Option<File>,
    /// Where the file ends.
    end: u64,
    /// Offsets of free slots by length.
    free: BTreeMap<usize, Vec<u64>>,
    used: u64,
}

impl Spill {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, file: None, end: 0, free: BTreeMap::new(), used: 0 }
    }

    /// Where the file is made.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes `bytes` into the smallest free slot that holds them, whose rest stays free, or at the end. Where that
    /// fails the slots are as before.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Slot> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile_in(&self.folder)?),
        };
        let fitting =
            self.free.range(bytes.len()..).next().and_then(|(len, slots)| Some((*len, *slots.last()?)));
        let offset = fitting.map_or(self.end, |(_, offset)| offset);
        write_at(file, bytes, offset)?;
        match fitting {
            None => self.end += bytes.len() as u64,
            Some((len, _)) => {
                if let Some(slots) = self.free.get_mut(&len) {
                    slots.pop();
                    if slots.is_empty() {
                        self.free.remove(&len);
                    }
                }
                if len > bytes.len() {
                    self.free.entry(len - bytes.len()).or_default().push(offset + bytes.len() as u64);
                }
            }
        }
        self.used += bytes.len() as u64;
        Ok(Slot { offset, len: bytes.len() })
    }

    /// Whether a free slot holds so many bytes.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.free.range(bytes..).next().is_some()
    }

    /// Fills `bytes`, as many as the slot has.
    pub(super) fn read(&self, slot: &Slot, bytes: &mut [u8]) -> io::Result<()> {
        match &self.file {
            Some(file) => read_at(file, bytes, slot.offset),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn free(&mut self, slot: Slot) {
        self.used -= slot.len as u64;
        if self.used == 0 {
            // The file goes, and with it the pieces that its slots were cut into.
            *self = Self::new(std::mem::take(&mut self.folder));
        } else if slot.len > 0 {
            self.free.entry(slot.len).or_default().push(slot.offset);
        }
    }

    /// Length of the part of the file that has slots, free ones included.
    pub(super) fn len(&self) -> u64 {
        self.end
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

#[cfg(not(unix))]
fn read_at(mut file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}
