//! Where encoded states lie: in memory up to a limit, then in the temporary file. It knows neither examples nor levels.

use std::io;
use std::path::PathBuf;

use half::bf16;
use half::slice::HalfFloatSliceExt;

use super::spill::{Slot, Spill};
use crate::recipe::CacheDtype;

impl CacheDtype {
    /// `bytes` becomes `values`, in the machine's byte order: nobody else reads them.
    pub(super) fn encode(self, values: &[f32], bytes: &mut Vec<u8>) {
        bytes.clear();
        match self {
            Self::F32 => bytes.extend_from_slice(bytemuck::cast_slice(values)),
            Self::Bf16 => {
                let mut piece = [bf16::ZERO; 256];
                for values in values.chunks(piece.len()) {
                    let piece = &mut piece[..values.len()];
                    piece.convert_from_f32_slice(values);
                    bytes.extend_from_slice(bytemuck::cast_slice(piece.reinterpret_cast()));
                }
            }
        }
    }

    /// What [`CacheDtype::encode`] wrote.
    pub(super) fn decode(self, bytes: &[u8], values: &mut [f32]) {
        match self {
            Self::F32 => bytemuck::cast_slice_mut(values).copy_from_slice(bytes),
            Self::Bf16 => {
                for (value, pair) in values.iter_mut().zip(bytes.chunks_exact(2)) {
                    *value = bf16::from_ne_bytes([pair[0], pair[1]]).to_f32();
                }
            }
        }
    }
}

/// Where one state lies.
#[derive(Debug)]
pub(super) enum Place {
    Memory(Vec<u8>),
    File(Slot),
}

/// Memory, then a file.
#[derive(Debug)]
pub(super) struct Store {
    limit: u64,
    memory: u64,
    spill: Spill,
    stopped: Option<String>,
}

impl Store {
    /// An empty one, whose file will be in `folder`.
    pub(super) fn new(limit: u64, folder: PathBuf) -> Self {
        Self { limit, memory: 0, spill: Spill::new(folder), stopped: None }
    }

    /// Keeps `bytes`, in the place of `old` if they fit exactly; `None` where there is no room.
    pub(super) fn put(&mut self, old: Option<Place>, bytes: &[u8]) -> Option<Place> {
        match old {
            Some(Place::Memory(mut own)) if own.len() == bytes.len() => {
                own.copy_from_slice(bytes);
                return Some(Place::Memory(own));
            }
            Some(old) => self.free(old),
            None => {}
        }
        if self.memory + bytes.len() as u64 <= self.limit {
            self.memory += bytes.len() as u64;
            return Some(Place::Memory(bytes.to_vec()));
        }
        // What was written once can be written again, if not more.
        if self.stopped.is_some() && !self.spill.has_room(bytes.len()) {
            return None;
        }
        match self.spill.write(bytes) {
            Ok(slot) => Some(Place::File(slot)),
            Err(source) => {
                let folder = self.spill.folder().display();
                self.stopped = Some(format!("a temporary file in {folder} could not be written: {source}"));
                None
            }
        }
    }

    /// `bytes` becomes what lies there.
    pub(super) fn read(&self, place: &Place, bytes: &mut Vec<u8>) -> io::Result<()> {
        match place {
            Place::Memory(own) => {
                bytes.clear();
                bytes.extend_from_slice(own);
                Ok(())
            }
            Place::File(slot) => {
                bytes.resize(slot.len, 0);
                self.spill.read(slot, bytes)
            }
        }
    }

    pub(super) fn free(&mut self, place: Place) {
        match place {
            Place::Memory(own) => self.memory -= own.len() as u64,
            Place::File(slot) => self.spill.free(slot),
        }
    }

    /// Forgets everything, the places that it gave out included.
    pub(super) fn clear(&mut self) {
        let folder = self.spill.folder().to_owned();
        *self = Self::new(self.limit, folder);
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.spill.len()
    }

    pub(super) fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }
}
