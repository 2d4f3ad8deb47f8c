//! `merge`: two patches of one base as one, and where they overlap.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use super::format::{self, Change, Description, Hashes, Patch, Recorded};
use super::pieces::Piece;
use super::slices::{Difference, Selection, Size, is_zero};
use super::{PatchError, files, fingerprint};

/// Conflicts that a message names.
const NAMED: usize = 5;

/// Whose values to take where two patches differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// Those of the first patch.
    First,
    /// Those of the second.
    Second,
}

/// Something that both patches change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// Tensor or file.
    pub name: String,
    /// `rows` or `columns` where scalars overlap; `tensor` where it stands as a whole against something else; `file`.
    pub kind: &'static str,
    /// The rows or columns that hold what both change: begin and end.
    pub slices: Vec<[usize; 2]>,
    /// Scalars that both change.
    pub scalars: u64,
    /// Those that both change, but differently.
    pub differ: u64,
    /// Whether it must be said whose to take.
    pub conflict: bool,
}

/// What merging gave.
#[derive(Debug)]
pub struct Merged {
    /// The merged patch.
    pub patch: Patch,
    /// What both change, by name; of a file where the two differ alone.
    pub overlaps: Vec<Overlap>,
}

/// Writes to `out` a patch that changes what either of two patches of one base changes.
///
/// Scalars that both change in the same way, or that one of them changes, are no conflict. Where they differ the values
/// are those of `prefer`. `recipe.toml`, which says how a model was made and not what it is, is the preferred one's, or
/// the first's.
///
/// # Errors
/// [`PatchError::OtherBase`]; [`PatchError::Conflict`] if they differ and nothing is preferred.
pub fn merge(first: &Path, second: &Path, prefer: Option<Prefer>, out: &Path) -> Result<Merged, PatchError> {
    let patches = [&Patch::open(first)?, &Patch::open(second)?];
    same_base(patches)?;
    let preferred = usize::from(prefer == Some(Prefer::Second));
    let mut merging = Merging {
        patches,
        preferred,
        description: of_both(patches),
        pieces: Vec::new(),
        overlaps: Vec::new(),
    };
    merging.tensors()?;
    merging.files();
    let Merging { mut overlaps, description, pieces, .. } = merging;
    overlaps.sort_by(|a, b| a.name.cmp(&b.name));
    let conflicts: Vec<&Overlap> = overlaps.iter().filter(|overlap| overlap.conflict).collect();
    if prefer.is_none() && !conflicts.is_empty() {
        return Err(PatchError::Conflict {
            first: first.into(),
            second: second.into(),
            conflicts: listed(&conflicts),
        });
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = pieces.iter().find(|piece| !names.insert(&piece.name)) {
        let difference = format!("both make {:?}, of different tensors", twice.name);
        return Err(PatchError::OtherBase { first: first.into(), second: second.into(), difference });
    }
    drop(names);
    Ok(Merged { patch: format::write(out, description, pieces)?, overlaps })
}

fn listed(conflicts: &[&Overlap]) -> String {
    let one = |overlap: &&Overlap| match overlap.kind {
        "file" => overlap.name.clone(),
        "tensor" => format!("{} as a whole", overlap.name),
        kind => {
            let slices: Vec<String> =
                overlap.slices.iter().take(NAMED).map(|[begin, end]| format!("{begin}..{end}")).collect();
            let more = if overlap.slices.len() > NAMED { ", …" } else { "" };
            format!("{} scalars of {} ({kind} {}{more})", overlap.differ, overlap.name, slices.join(", "))
        }
    };
    let named: Vec<String> = conflicts.iter().take(NAMED).map(one).collect();
    let more = match conflicts.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    named.join("; ") + &more
}

fn same_base(patches: [&Patch; 2]) -> Result<(), PatchError> {
    let [a, b] = patches.map(|patch| &patch.description);
    let refuse = |difference| {
        let [first, second] = patches.map(|patch| patch.path.clone());
        Err(PatchError::OtherBase { first, second, difference })
    };
    if a.base_sha256 != b.base_sha256 {
        let [first, second] = [a, b].map(|of| fingerprint::short(&of.base_sha256));
        return refuse(format!("their weights have SHA-256 {first}… and {second}…"));
    }
    let base = |of: &Description, name: &str| of.files.get(name).and_then(|hashes| hashes.base.clone());
    match files::names().find(|name| base(a, name) != base(b, name)) {
        Some(name) => refuse(format!("the {name} of the two is not the same")),
        None => Ok(()),
    }
}

/// The description of both, but for what they change.
fn of_both(patches: [&Patch; 2]) -> Description {
    Description { changed: BTreeMap::new(), files: BTreeMap::new(), ..patches[0].description.clone() }
}

/// What a patch does with a tensor of the base.
#[derive(Clone, Copy)]
enum Action<'p> {
    /// Changes its bits, name or type.
    Change(&'p Change),
    /// Puts another one in its place.
    Replace(&'p str),
    /// Takes it away.
    Remove(&'p str),
    /// Adds one that the base does not have.
    Add(&'p str),
}

struct Merging<'p> {
    patches: [&'p Patch; 2],
    preferred: usize,
    description: Description,
    pieces: Vec<Piece<'p>>,
    overlaps: Vec<Overlap>,
}

impl<'p> Merging<'p> {
    fn tensors(&mut self) -> Result<(), PatchError> {
        let [first, second] = self.patches.map(actions);
        let names: BTreeSet<&str> = first.keys().chain(second.keys()).copied().collect();
        for name in names {
            match (first.get(name), second.get(name)) {
                (Some(first), Some(second)) => self.both(name, [*first, *second])?,
                (Some(first), None) => self.take(0, *first),
                (None, Some(second)) => self.take(1, *second),
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// Takes over what patch `from` does.
    fn take(&mut self, from: usize, action: Action<'p>) {
        let patch = self.patches[from];
        let (kinds, name): (&[&str], &str) = match action {
            Action::Change(change) => {
                self.description.changed.insert(change.name.clone(), change.what.clone());
                (&["bits", "rows", "columns"], &change.name)
            }
            Action::Replace(name) => (&["base", "tuned"], name),
            Action::Remove(name) => (&["base"], name),
            Action::Add(name) => (&["tuned"], name),
        };
        for stored in kinds.iter().map(|kind| format!("{kind}:{name}")) {
            if let Some(tensor) = patch.tensors.get(&stored) {
                self.pieces.push(Piece::copy(stored, &patch.tensors, tensor));
            }
        }
    }

    /// Both patches do something with one tensor.
    fn both(&mut self, name: &str, actions: [Action<'p>; 2]) -> Result<(), PatchError> {
        if let [Action::Change(a), Action::Change(b)] = actions
            && (&a.name, &a.what) == (&b.name, &b.what)
        {
            let differences = [0, 1].map(|i| self.patches[i].difference(&a.name));
            let [Some(first), Some(second)] = differences else {
                self.take(
                    usize::from(a.selection.is_none()),
                    Action::Change(if a.selection.is_some() { a } else { b }),
                );
                return Ok(());
            };
            let union = Union { differences: [first, second], preferred: self.preferred };
            self.overlaps.extend(union.overlap(&a.name)?);
            self.description.changed.insert(a.name.clone(), a.what.clone());
            if let Some(selection) = Selection::of(&union)? {
                self.pieces.extend(selection.pieces(&a.name, union));
            }
            return Ok(());
        }
        if !self.same(actions)? {
            let overlap = Overlap {
                name: name.into(),
                kind: "tensor",
                slices: Vec::new(),
                scalars: 0,
                differ: 0,
                conflict: true,
            };
            self.overlaps.push(overlap);
        }
        self.take(self.preferred, actions[self.preferred]);
        Ok(())
    }

    /// Whether the two leave the same.
    fn same(&self, actions: [Action<'p>; 2]) -> Result<bool, PatchError> {
        match actions {
            [Action::Remove(_), Action::Remove(_)] => Ok(true),
            [Action::Replace(a), Action::Replace(b)] | [Action::Add(a), Action::Add(b)] => {
                let hash = |i: usize, name| {
                    let stored: Vec<Piece<'_>> = self.patches[i].stored("tuned", name).into_iter().collect();
                    fingerprint::of_pieces(&stored)
                };
                Ok(hash(0, a)? == hash(1, b)?)
            }
            _ => Ok(false),
        }
    }

    fn files(&mut self) {
        let [first, second] = self.patches.map(|patch| &patch.description.files);
        let names: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
        let none = Hashes::default();
        for name in names {
            let hashes = [first, second].map(|files| files.get(name).unwrap_or(&none));
            let changes = hashes.map(|hashes| hashes.base != hashes.tuned);
            let from = match changes {
                [true, true] if hashes[0].tuned != hashes[1].tuned => {
                    self.overlaps.push(Overlap {
                        name: name.clone(),
                        kind: "file",
                        slices: Vec::new(),
                        scalars: 0,
                        differ: 0,
                        conflict: name != files::RECIPE,
                    });
                    self.preferred
                }
                [false, true] => 1,
                _ => 0,
            };
            self.description.files.insert(name.clone(), hashes[from].clone());
            let patch = self.patches[from];
            for stored in ["base-file", "tuned-file"].map(|side| format!("{side}:{name}")) {
                if let Some(tensor) = patch.tensors.get(&stored) {
                    self.pieces.push(Piece::copy(stored, &patch.tensors, tensor));
                }
            }
        }
    }
}

/// What a patch does, by the name of the base's tensor, or of the new one.
fn actions(patch: &Patch) -> BTreeMap<&str, Action<'_>> {
    let changes = patch.changes.values().map(|change| (&change.what.base[..], Action::Change(change)));
    let removed = patch.removed.iter().map(|name| {
        let replaced = patch.added.contains(name);
        (&name[..], if replaced { Action::Replace(name) } else { Action::Remove(name) })
    });
    let added = patch.added.iter().filter(|name| !patch.removed.contains(*name));
    changes.chain(removed).chain(added.map(|name| (&name[..], Action::Add(name)))).collect()
}

/// Two differences of one tensor as one: each scalar's is that of the patch that changes it, or the preferred one's.
struct Union<'p> {
    differences: [Recorded<'p>; 2],
    preferred: usize,
}

impl Union<'_> {
    /// Rows of both.
    fn both(&self, rows: &Range<usize>) -> Result<[Vec<u8>; 2], PatchError> {
        Ok([self.differences[0].rows(rows.clone())?, self.differences[1].rows(rows.clone())?])
    }

    /// What both change of tensor `name`.
    fn overlap(&self, name: &str) -> Result<Option<Overlap>, PatchError> {
        let size = self.size();
        let (mut scalars, mut differ) = (0, 0);
        for rows in size.chunks(0..size.rows) {
            let [a, b] = self.both(&rows)?;
            for (a, b) in a.chunks_exact(size.unit).zip(b.chunks_exact(size.unit)) {
                if !is_zero(a) && !is_zero(b) {
                    scalars += 1;
                    differ += u64::from(a != b);
                }
            }
        }
        Ok(Selection::of(&Common(self))?.map(|selection| Overlap {
            name: name.into(),
            kind: selection.axis.name(),
            slices: selection.runs.iter().map(|run| [run.start, run.end]).collect(),
            scalars,
            differ,
            conflict: differ > 0,
        }))
    }
}

impl Difference for Union<'_> {
    fn size(&self) -> Size {
        self.differences[0].size()
    }

    fn rows(&self, rows: Range<usize>) -> Result<Vec<u8>, PatchError> {
        let unit = self.size().unit;
        let [mut ours, mut theirs] = self.both(&rows)?;
        if self.preferred == 1 {
            std::mem::swap(&mut ours, &mut theirs);
        }
        for (own, other) in ours.chunks_exact_mut(unit).zip(theirs.chunks_exact(unit)) {
            if is_zero(own) {
                own.copy_from_slice(other);
            }
        }
        Ok(ours)
    }
}

/// What both differences of a union change.
struct Common<'u, 'p>(&'u Union<'p>);

impl Difference for Common<'_, '_> {
    fn size(&self) -> Size {
        self.0.size()
    }

    fn rows(&self, rows: Range<usize>) -> Result<Vec<u8>, PatchError> {
        let unit = self.size().unit;
        let [mut a, b] = self.0.both(&rows)?;
        for (a, b) in a.chunks_exact_mut(unit).zip(b.chunks_exact(unit)) {
            if is_zero(b) {
                a.fill(0);
            }
        }
        Ok(a)
    }
}
