//! `merge`: two patches of one base as one, and where they overlap.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::format::{self, Change, Description, Hashes, Patch};
use super::pieces::Piece;
use super::slices::{Selection, is_zero};
use super::{PatchError, files, fingerprint};

/// Conflicts that a message names, and runs of slices of one.
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

impl Overlap {
    /// One that no scalars are counted of.
    fn whole(name: &str, kind: &'static str, conflict: bool) -> Self {
        Self { name: name.into(), kind, slices: Vec::new(), scalars: 0, differ: 0, conflict }
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, kind) = (&self.name, self.kind);
        match kind {
            "file" => write!(f, "{name}"),
            "tensor" => write!(f, "{name} as a whole"),
            _ => {
                let runs = self.slices.iter().take(NAMED).map(|[begin, end]| format!("{begin}..{end}"));
                let more = if self.slices.len() > NAMED { ", …" } else { "" };
                write!(f, "{name} ({kind} {}{more})", runs.collect::<Vec<_>>().join(", "))
            }
        }
    }
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
/// are those of `prefer`. What the two give other names, or put as a whole in each other's place, is taken from one of
/// them alone. `recipe.toml`, which says how a model was made and not what it is, is the preferred one's, or the first's.
///
/// # Errors
/// [`PatchError::OtherBase`]; [`PatchError::Conflict`] if they differ and nothing is preferred.
pub fn merge(first: &Path, second: &Path, prefer: Option<Prefer>, out: &Path) -> Result<Merged, PatchError> {
    let patches = [&Patch::open(first)?, &Patch::open(second)?];
    same_base(patches)?;
    let preferred = usize::from(prefer == Some(Prefer::Second));
    let mut description =
        Description { changed: BTreeMap::new(), files: BTreeMap::new(), ..patches[0].description.clone() };
    let (mut pieces, mut overlaps) = (Vec::new(), Vec::new());
    for (name, actions) in actions(patches) {
        let [a, b] = &actions;
        let pairs = || a.iter().zip(b);
        if a.len() == b.len() && pairs().all(|(a, b)| a.is_alike(b, patches)) {
            for (a, b) in pairs() {
                let from = match (a.change, b.change) {
                    (Some(x), Some(y)) if x.selection.is_some() && y.selection.is_some() => {
                        let mut sides = [(patches[0], x), (patches[1], y)];
                        sides.rotate_left(preferred);
                        let (union, overlap) = unite(a.name, sides)?;
                        pieces.extend(union);
                        overlaps.extend(overlap);
                        description.changed.insert(a.name.into(), x.clone());
                        continue;
                    }
                    (Some(x), _) => usize::from(x.selection.is_none()),
                    _ => {
                        let tuned = patches.map(|patch| patch.stored("tuned", a.name));
                        let [x, y] = tuned.map(|tuned| fingerprint::of_pieces(tuned.as_slice()));
                        overlaps.extend((x? != y?).then(|| Overlap::whole(a.name, "tensor", true)));
                        preferred
                    }
                };
                [a, b][from].take(patches[from], &mut description, &mut pieces);
            }
        } else {
            let both = !a.is_empty() && !b.is_empty();
            overlaps.extend(both.then(|| Overlap::whole(name, "tensor", true)));
            let from = if actions[preferred].is_empty() { 1 - preferred } else { preferred };
            actions[from].iter().for_each(|one| one.take(patches[from], &mut description, &mut pieces));
        }
    }
    for name in files::names() {
        let (both, none) = (patches.map(|patch| patch.description.files.get(name)), Hashes::default());
        let [a, b] = both.map(|hashes| hashes.unwrap_or(&none));
        let from = match [a, b].map(|hashes| hashes.base != hashes.tuned) {
            [true, true] if a.tuned != b.tuned => {
                overlaps.push(Overlap::whole(name, "file", name != files::RECIPE));
                preferred
            }
            [false, true] => 1,
            _ => 0,
        };
        description.files.extend(both[from].map(|hashes| (name.into(), hashes.clone())));
        copy(patches[from], &["base-file", "tuned-file"], name, &mut pieces);
    }
    overlaps.sort_by(|a, b| a.name.cmp(&b.name));
    let conflicts: Vec<&Overlap> = overlaps.iter().filter(|overlap| overlap.conflict).collect();
    if prefer.is_none() && !conflicts.is_empty() {
        let conflicts = listed(&conflicts);
        return Err(PatchError::Conflict { first: first.into(), second: second.into(), conflicts });
    }
    Ok(Merged { patch: format::write(out, description, pieces)?, overlaps })
}

fn listed(conflicts: &[&Overlap]) -> String {
    let one = |overlap: &&Overlap| match overlap.differ {
        0 => overlap.to_string(),
        scalars => format!("{scalars} scalars of {overlap}"),
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

/// What a patch does with a tensor.
struct Action<'p> {
    name: &'p str,
    /// The change of the one that becomes `name`; nothing where the base's `name` is taken away, or put in another's
    /// place, or there is a new one.
    change: Option<&'p Change>,
}

impl<'p> Action<'p> {
    /// Whether the second patch's `other` does the same, but for scalars.
    fn is_alike(&self, other: &Self, patches: [&Patch; 2]) -> bool {
        let [a, b] =
            patches.map(|patch| (patch.removed.contains(self.name), patch.added.contains(self.name)));
        self.name == other.name
            && match (self.change, other.change) {
                (Some(change), Some(other)) => change.is_alike(other),
                (None, None) => a == b,
                _ => false,
            }
    }

    /// Takes it over.
    fn take(&self, patch: &'p Patch, description: &mut Description, pieces: &mut Vec<Piece<'p>>) {
        let kinds: &[&str] = match self.change {
            Some(change) => {
                description.changed.insert(self.name.into(), change.clone());
                &["bits", "rows", "columns"]
            }
            None => &["base", "tuned"],
        };
        copy(patch, kinds, self.name, pieces);
    }
}

/// Takes over those tensors `kind:name` that a patch has.
fn copy<'p>(patch: &'p Patch, kinds: &[&str], name: &str, pieces: &mut Vec<Piece<'p>>) {
    for stored in kinds.iter().map(|kind| format!("{kind}:{name}")) {
        if let Some(tensor) = patch.tensors.get(&stored) {
            pieces.push(Piece::copy(stored, &patch.tensors, tensor));
        }
    }
}

/// What the two do, by name. Names that a change of either links are one, the first of them: so no name gets two owners.
fn actions<'p>(patches: [&'p Patch; 2]) -> BTreeMap<&'p str, [Vec<Action<'p>>; 2]> {
    let changed = |patch: &'p Patch| patch.description.changed.iter();
    let mut linked: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, change) in patches.into_iter().flat_map(changed) {
        let [base, name] = [&change.base, name].map(|name| root(&linked, name));
        if base != name {
            linked.insert(name, base);
        }
    }
    let mut actions: BTreeMap<&str, [Vec<Action<'_>>; 2]> = BTreeMap::new();
    for (i, patch) in patches.into_iter().enumerate() {
        let changes = changed(patch).map(|(name, change)| Action { name, change: Some(change) });
        let whole = patch.added.union(&patch.removed).map(|name| Action { name, change: None });
        for action in changes.chain(whole) {
            actions.entry(root(&linked, action.name)).or_default()[i].push(action);
        }
    }
    actions
}

fn root<'p>(linked: &BTreeMap<&'p str, &'p str>, mut name: &'p str) -> &'p str {
    while let Some(next) = linked.get(name) {
        name = next;
    }
    name
}

/// The differences of tensor `name` in two patches as one: each scalar's is that of the patch that changes it, the
/// first's where both do. With it what both change.
fn unite<'p>(
    name: &str,
    sides: [(&'p Patch, &'p Change); 2],
) -> Result<(Vec<Piece<'p>>, Option<Overlap>), PatchError> {
    let (size, of) = (sides[0].1.size, name.to_string());
    let united = move || {
        let [ours, theirs] = sides.map(|(patch, change)| patch.difference(&of, change));
        let (mut ours, mut theirs, mut scalars, mut differ) = (ours?, theirs?, 0, 0);
        // `ours` becomes what either changes, `theirs` what both do.
        for (own, other) in ours.chunks_exact_mut(size.unit).zip(theirs.chunks_exact_mut(size.unit)) {
            if is_zero(own) {
                own.copy_from_slice(other);
                other.fill(0);
            } else if !is_zero(other) {
                scalars += 1;
                differ += u64::from(own != other);
            }
        }
        Ok::<_, PatchError>((ours, theirs, scalars, differ))
    };
    let (union, common, scalars, differ) = united()?;
    let overlap = Selection::of(&common, size).map(|selection| Overlap {
        kind: selection.axis.name(),
        slices: selection.runs.iter().map(|run| [run.start, run.end]).collect(),
        scalars,
        differ,
        ..Overlap::whole(name, "", differ > 0)
    });
    let selection = Selection::of(&union, size);
    let pieces = selection.map(|selection| selection.pieces(name, size, move || Ok(united()?.0)));
    Ok((pieces.into_iter().flatten().collect(), overlap))
}
