//! Patches of small folders of tensors: exact in both directions, and no file that can make them panic.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

use super::*;

/// A tensor to write.
#[derive(Clone, Debug, PartialEq)]
struct T {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn t(name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> T {
    T { name: name.into(), dtype, shape: shape.into(), bytes }
}

/// Scalars of F32, of which the `n`-th is `f(n)`.
fn floats(name: &str, shape: &[usize], f: impl Fn(usize) -> f32) -> T {
    t(name, Dtype::F32, shape, (0..shape.iter().product()).flat_map(|n| f(n).to_le_bytes()).collect())
}

fn save(path: &Path, tensors: &[T], metadata: &[(&str, &str)]) {
    let views =
        tensors.iter().map(|t| (&t.name[..], TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    std::fs::write(path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
}

fn load(path: &Path) -> Vec<T> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<T> =
        file.iter().map(|(name, view)| t(name, view.dtype(), view.shape(), view.data().to_vec())).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// A place with two model folders, `base` and `tuned`.
struct Place(TempDir);

impl Place {
    fn with(base: &[T], tuned: &[T]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (name, tensors) in [("base", base), ("tuned", tuned)] {
            place.model(name, tensors);
        }
        place
    }

    fn model(&self, name: &str, tensors: &[T]) -> PathBuf {
        let folder = self.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        save(&folder.join("model.safetensors"), tensors, &[("format", "pt")]);
        std::fs::write(folder.join("config.json"), format!("{{\"of\": \"{name}\"}}")).unwrap();
        std::fs::write(folder.join("tokenizer.json"), "{}").unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn diff(&self) -> Patch {
        diff(&self.path("base"), &self.path("tuned"), &self.path("patch")).unwrap()
    }

    /// Whether applying makes the fine-tuned folder, and reverting the base's tensors and files.
    fn round_trip(&self) {
        let patch = self.diff();
        patch.apply(&self.path("base"), &self.path("applied")).unwrap();
        for file in ["model.safetensors", "config.json", "tokenizer.json"] {
            let [expected, found] =
                ["tuned", "applied"].map(|name| std::fs::read(self.path(name).join(file)).unwrap());
            assert!(expected == found, "{file} differs");
        }
        patch.revert(&self.path("applied"), &self.path("reverted")).unwrap();
        let weights = |name| load(&self.path(name).join("model.safetensors"));
        assert_eq!(weights("base"), weights("reverted"));
        let config = |name| std::fs::read(self.path(name).join("config.json")).unwrap();
        assert_eq!(config("base"), config("reverted"));
    }
}

/// What may happen to a tensor: the new bytes, and what of it is kept.
fn tensors() -> impl Strategy<Value = (Vec<T>, Vec<T>)> {
    let dtypes = [Dtype::F32, Dtype::BF16, Dtype::F16, Dtype::I64, Dtype::U8, Dtype::BOOL, Dtype::F64];
    let shape = prop_oneof![
        Just(vec![]),
        prop::collection::vec(0usize..5, 1..2),
        prop::collection::vec(1usize..7, 2..4),
    ];
    let one = (prop::sample::select(dtypes.to_vec()), shape).prop_flat_map(|(dtype, shape)| {
        let n = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let bytes = prop::collection::vec(any::<u8>(), n);
        // Which bytes change, how, and what else happens to the tensor.
        (Just(dtype), Just(shape), bytes.clone(), prop::collection::vec(0u8..4, n), bytes, 0u8..9)
    });
    prop::collection::vec(one, 0..6).prop_map(|all| {
        let (mut base, mut tuned) = (Vec::new(), Vec::new());
        for (i, (dtype, shape, bytes, touched, fresh, fate)) in all.into_iter().enumerate() {
            let name = format!("layer.{i}.weight");
            let old = t(&name, dtype, &shape, bytes);
            let changed = old
                .bytes
                .iter()
                .zip(&touched)
                .zip(&fresh)
                .map(|((old, touched), new)| if *touched == 0 { *new } else { *old });
            let new = T { bytes: changed.collect(), ..old.clone() };
            match fate {
                0 => base.push(old),
                1 => tuned.push(new),
                2 => {
                    base.push(old.clone());
                    tuned.push(old);
                }
                3 => {
                    base.push(old);
                    tuned.push(T { name: format!("model.{name}"), ..new });
                }
                4 if dtype.bitsize() == 16 => {
                    base.push(old.clone());
                    let bytes = fresh.iter().flat_map(|b| [*b, 0]).collect();
                    tuned.push(T { dtype: Dtype::F32, bytes, ..old });
                }
                5 => {
                    base.push(old);
                    tuned.push(T { shape: [vec![1], shape].concat(), ..new });
                }
                _ => {
                    base.push(old);
                    tuned.push(new);
                }
            }
        }
        (base, tuned)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn apply_then_revert_is_the_identity((base, tuned) in tensors()) {
        Place::with(&base, &tuned).round_trip();
    }

    #[test]
    fn bytes_that_are_no_patch_are_refused(at in 0usize..4000, flip in 1u8..255, cut in any::<bool>()) {
        let place = small();
        place.diff();
        let path = place.path("patch");
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
        std::fs::write(&path, bytes).unwrap();
        // Spaces after the header say nothing; anything else must be found out.
        if let Ok(patch) = Patch::open(&path) {
            patch.apply(&place.path("base"), &place.path("out")).unwrap();
            prop_assert!(!cut && load(&place.path("out/model.safetensors")) == load(&place.path("tuned/model.safetensors")));
        }
    }
}

/// Rows 2 and 3 of one tensor, column 1 of another, a new head.
fn small() -> Place {
    let rows = |tuned: bool| {
        floats("rows", &[6, 40], move |n| if tuned && (80..160).contains(&n) { 2.0 } else { 1.0 })
    };
    let columns =
        |tuned: bool| floats("columns", &[40, 5], move |n| if tuned && n % 5 == 1 { 2.0 } else { 1.0 });
    let same = || floats("same", &[3], |n| n as f32);
    let base = [rows(false), columns(false), same(), floats("head", &[2, 3], |_| 0.0)];
    let tuned = [rows(true), columns(true), same(), floats("head", &[4, 3], |_| 1.0)];
    Place::with(&base, &tuned)
}

fn message<X>(result: Result<X, PatchError>) -> String {
    match result {
        Ok(_) => panic!("it was accepted"),
        Err(error) => {
            assert!(!matches!(error, PatchError::Write { .. }));
            error.to_string()
        }
    }
}

#[test]
fn the_smaller_of_rows_and_columns_is_stored() {
    let place = small();
    let summary = place.diff().summary().unwrap();
    let found: Vec<_> =
        summary.tensors.iter().map(|t| (&t.name[..], t.kind, t.slices, t.of, t.scalars)).collect();
    let expected =
        [("columns", "columns", 1, 5, 40), ("head", "replaced", 4, 4, 12), ("rows", "rows", 2, 6, 80)];
    assert_eq!(found, expected);
    assert_eq!(summary.tensors[2].bytes, 4 * 80 + 8);
    let scalars: u64 = summary.tensors.iter().map(|t| t.scalars).sum();
    assert_eq!(summary.scalars, scalars);
    assert!((summary.share - scalars as f64 / (240.0 + 200.0 + 3.0 + 6.0)).abs() < 1e-12);
    place.round_trip();
}

#[test]
fn a_half_precision_base_costs_only_what_changed() {
    let half: Vec<u8> =
        (0..400u32).flat_map(|n| half::bf16::from_f32(n as f32).to_bits().to_le_bytes()).collect();
    let base = t("w", Dtype::BF16, &[20, 20], half);
    let tuned =
        floats(
            "bert.w",
            &[20, 20],
            |n| if n / 20 == 7 { 0.1 } else { half::bf16::from_f32(n as f32).to_f32() },
        );
    let place = Place::with(&[base], &[tuned]);
    let summary = place.diff().summary().unwrap();
    assert_eq!((summary.widened, summary.renamed, summary.scalars), (1, 1, 20));
    place.round_trip();
}

#[test]
fn another_base_is_refused_in_both_directions() {
    let place = small();
    let patch = place.diff();
    // One bit of what the patch does not even touch.
    let mut other = load(&place.path("base/model.safetensors"));
    other.iter_mut().find(|t| t.name == "same").unwrap().bytes[0] ^= 1;
    let other = place.model("other", &other);
    let refused = message(patch.apply(&other, &place.path("out")));
    assert!(refused.contains("not the base of") && refused.contains("SHA-256"), "{refused}");
    assert!(message(patch.apply(&place.path("tuned"), &place.path("out"))).contains("not the base of"));

    let mut other = load(&place.path("tuned/model.safetensors"));
    other.iter_mut().find(|t| t.name == "same").unwrap().bytes[0] ^= 1;
    let other = place.model("other", &other);
    let refused = message(patch.revert(&other, &place.path("out")));
    assert!(refused.contains("does not give the base's weights"), "{refused}");
    let refused = message(patch.revert(&place.path("base"), &place.path("out")));
    assert!(refused.contains("does not give the base's weights"), "{refused}");

    // The tokenizer is the base's, and the patch does not carry it.
    std::fs::write(place.path("base/tokenizer.json"), "other").unwrap();
    assert!(
        message(patch.apply(&place.path("base"), &place.path("out")))
            .contains("its tokenizer.json is another one")
    );
    assert!(!place.path("out").exists());

    // The config is the base's too, though the patch changes it: reverting gives back the base's.
    let place = small();
    let patch = place.diff();
    std::fs::write(place.path("base/config.json"), "edited").unwrap();
    let refused = message(patch.apply(&place.path("base"), &place.path("out")));
    assert!(refused.contains("its config.json is another one"), "{refused}");
    // Without one it is another base too; another recipe is none.
    std::fs::remove_file(place.path("base/config.json")).unwrap();
    assert!(message(patch.apply(&place.path("base"), &place.path("out"))).contains("config.json"));
    let place = small();
    std::fs::write(place.path("tuned/recipe.toml"), "tuned").unwrap();
    let patch = place.diff();
    std::fs::write(place.path("base/recipe.toml"), "other").unwrap();
    patch.apply(&place.path("base"), &place.path("out")).unwrap();
}

#[test]
fn shards_are_the_same_base() {
    let place = small();
    let patch = place.diff();
    let all = load(&place.path("base/model.safetensors"));
    let sharded = place.model("sharded", &[]);
    std::fs::copy(place.path("base/config.json"), sharded.join("config.json")).unwrap();
    std::fs::remove_file(sharded.join("model.safetensors")).unwrap();
    save(&sharded.join("a.safetensors"), &all[..1], &[]);
    save(&sharded.join("b.safetensors"), &all[1..], &[("some", "thing")]);
    let index = r#"{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#;
    std::fs::write(sharded.join("model.safetensors.index.json"), index).unwrap();
    patch.apply(&sharded, &place.path("out")).unwrap();
    assert_eq!(load(&place.path("out/model.safetensors")), load(&place.path("tuned/model.safetensors")));
}

#[test]
fn files_of_a_folder_that_holds_something_are_left_alone() {
    let place = small();
    let patch = place.diff();
    let refused = message(patch.apply(&place.path("base"), &place.path("base")));
    assert!(refused.contains("holds files"), "{refused}");
    assert!(message(patch.revert(&place.path("tuned"), &place.path("patch"))).contains("is a file"));
    let diff_to = |out: &str| message(diff(&place.path("base"), &place.path("tuned"), &place.path(out)));
    assert!(diff_to("base/model.safetensors").contains("is there already, and no patch"));
    assert!(diff_to("base").contains("is there already, and no patch"));
    assert!(diff_to("nowhere/patch").contains("its folder does not exist"));
    place.diff();
}

/// Writes over the patch of `place` one whose checksum is right, after `change` of its description and tensors.
fn forge(
    place: &Place,
    change: impl FnOnce(&mut format::Description, &mut Vec<T>),
) -> Result<Patch, PatchError> {
    let mut description = place.diff().description;
    let mut tensors = load(&place.path("patch"));
    change(&mut description, &mut tensors);
    let pieces =
        tensors.into_iter().map(|t| pieces::Piece::of_bytes(t.name, t.dtype, t.shape, t.bytes)).collect();
    format::write(&place.path("patch"), description, pieces)
}

/// Why such a patch is refused, at the latest when it is applied.
fn forged(change: impl FnOnce(&mut format::Description, &mut Vec<T>)) -> String {
    let place = small();
    let written = forge(&place, change);
    // What cannot be read back never gets the name, and the earlier patch stays.
    if written.is_err() {
        Patch::open(&place.path("patch")).unwrap();
    }
    message(written.and_then(|patch| patch.apply(&place.path("base"), &place.path("out"))))
}

fn tensor<'a>(tensors: &'a mut [T], name: &str) -> &'a mut T {
    tensors.iter_mut().find(|t| t.name == name).unwrap()
}

fn runs(runs: &[[u32; 2]]) -> Vec<u8> {
    runs.iter().flatten().flat_map(|n| n.to_le_bytes()).collect()
}

#[test]
fn forged_patches_are_refused() {
    let with_runs = |list: &'static [[u32; 2]]| {
        forged(move |_, tensors| {
            let own = tensor(tensors, "rows:rows");
            (own.shape, own.bytes) = (vec![list.len(), 2], runs(list));
        })
    };
    let beyond = with_runs(&[[5, 7]]);
    assert!(beyond.contains("changes rows 5..7 of 6"), "{beyond}");
    assert!(with_runs(&[[2, 3], [2, 3]]).contains("changes rows 2..3 of 6, after 3"));
    assert!(with_runs(&[[3, 2]]).contains("changes rows 3..2"));
    assert!(with_runs(&[[2, 3]]).contains("bits of another shape"));
    assert!(with_runs(&[]).contains("no slices"));
    assert!(with_runs(&[[u32::MAX - 1, u32::MAX]]).contains("of 6"));
    assert!(
        forged(|_, tensors| tensor(tensors, "rows:rows").dtype = Dtype::F32).contains("runs that are none")
    );
    assert!(forged(|_, tensors| tensors.retain(|t| t.name != "rows:rows")).contains("without one list"));
    assert!(
        forged(|_, tensors| tensors.push(t("stray", Dtype::U8, &[1], vec![0]))).contains("belong to nothing")
    );
    assert!(forged(|_, tensors| tensors.push(t("tuned:rows", Dtype::U8, &[1], vec![0]))).contains("twice"));
    assert!(
        forged(|_, tensors| tensors.push(t("tuned:same", Dtype::U8, &[1], vec![0])))
            .contains("two tensors would be called")
    );

    let shaped = |shape: &'static [usize]| {
        forged(move |description, _| description.changed.get_mut("rows").unwrap().shape = shape.into())
    };
    assert!(shaped(&[3, 80]).contains("rows 2..4 of 3"));
    assert!(shaped(&[6, 4, 10]).contains("another shape or type"));
    assert!(shaped(&[usize::MAX, 2]).contains("impossible"));
    assert!(shaped(&[0, usize::MAX, 2]).contains("impossible"));
    let dtype = forged(|description, _| description.changed.get_mut("rows").unwrap().base_dtype = Dtype::I64);
    assert!(dtype.contains("type that it cannot have"));

    let file = forged(|description, tensors| {
        let hashes = format::Hashes { base: None, tuned: Some("x".into()) };
        description.files.insert("../escape".into(), hashes);
        tensors.push(t("tuned-file:../escape", Dtype::U8, &[1], vec![0]));
    });
    assert!(file.contains("is no file of a model"), "{file}");
    assert!(
        forged(|description, _| drop(description.files.remove("config.json")))
            .contains("not in its description")
    );
}

#[test]
fn other_files_are_no_patches() {
    let place = small();
    place.diff();
    let open = |path: &str| message(Patch::open(&place.path(path)));
    assert!(open("base/model.safetensors").contains("without a description"));
    assert!(open("base/config.json").contains("not a whole safetensors file"));
    assert!(open("nowhere").contains("nowhere"));
    assert!(open("base").contains("base"));
    save(&place.path("newer"), &[], &[("rgft-patch", r#"{"format": 2}"#)]);
    assert!(open("newer").contains("format 2, this version reads format 1"));
    save(&place.path("odd"), &[], &[("rgft-patch", "[]")]);
    assert!(open("odd").contains("has no format"));
    std::fs::write(place.path("short"), [0; 7]).unwrap();
    assert!(open("short").contains("shorter than a header"));
    std::fs::write(place.path("long"), u64::MAX.to_le_bytes()).unwrap();
    assert!(open("long").contains("longer than the file"));
}

#[test]
fn a_small_patch_cannot_have_a_huge_tensor_made() {
    let place = small();
    let size = format!("[1, {}]", u32::MAX);
    let huge = format!(r#"{{"shape": {size}, "dtype": "F64", "base": "huge", "base_dtype": "F64"}}"#);
    forge(&place, |description, tensors| {
        description.changed.insert("huge".into(), serde_json::from_str(&huge).unwrap());
        tensors.push(t("bits:huge", Dtype::U64, &[1, 1], vec![1; 8]));
        tensors.push(t("columns:huge", Dtype::U32, &[1, 2], runs(&[[0, 1]])));
    })
    .unwrap();
    let patch = place.path("patch");
    let refused = message(merge(&patch, &patch, None, &place.path("merged")));
    assert!(refused.contains(r#""huge" of 34359738360 bytes"#), "{refused}");
}

// ---- merge ----

/// Patches `a` and `b` of one base of 6 × 40 ones, each with its own fine-tuned scalars.
fn two(a: impl Fn(usize) -> f32, b: impl Fn(usize) -> f32) -> Place {
    let w = |f: &dyn Fn(usize) -> f32| floats("w", &[6, 40], f);
    let place = Place::with(&[w(&|_| 1.0)], &[]);
    for (name, tensor) in [("a", w(&a)), ("b", w(&b))] {
        let folder = place.model(name, &[tensor]);
        std::fs::copy(place.path("base/config.json"), folder.join("config.json")).unwrap();
        std::fs::write(folder.join("recipe.toml"), name).unwrap();
        diff(&place.path("base"), &folder, &place.path(&format!("{name}.patch"))).unwrap();
    }
    place
}

fn merged(place: &Place, prefer: Option<Prefer>) -> Result<Merged, PatchError> {
    merge(&place.path("a.patch"), &place.path("b.patch"), prefer, &place.path("merged"))
}

/// The weights that a merged patch makes, and whether it can be taken back.
fn weights_of(place: &Place, merged: &Merged) -> Vec<f32> {
    let out = tempfile::tempdir().unwrap();
    let [applied, reverted] = ["applied", "reverted"].map(|name| out.path().join(name));
    merged.patch.apply(&place.path("base"), &applied).unwrap();
    merged.patch.revert(&applied, &reverted).unwrap();
    assert_eq!(load(&reverted.join("model.safetensors")), load(&place.path("base/model.safetensors")));
    let bytes = &load(&applied.join("model.safetensors"))[0].bytes;
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[test]
fn patches_that_touch_other_slices_add_up() {
    // A row, and a column that crosses it where the row is unchanged.
    let a = |n: usize| if n / 40 == 2 && n % 40 != 5 { 2.0 } else { 1.0 };
    let b = |n: usize| if n % 40 == 5 { 3.0 } else { 1.0 };
    let place = two(a, b);
    let merged = merged(&place, None).unwrap();
    let both: Vec<f32> = (0..240).map(|n| if b(n) != 1.0 { b(n) } else { a(n) }).collect();
    assert_eq!(weights_of(&place, &merged), both);
    // The recipes differ, which is told and no conflict.
    let [recipe] = &merged.overlaps[..] else { panic!("{:?}", merged.overlaps) };
    assert_eq!((&recipe.name[..], recipe.kind, recipe.conflict), ("recipe.toml", "file", false));
}

#[test]
fn what_differs_must_be_decided() {
    let a = |n: usize| if n / 40 == 2 { 2.0 } else { 1.0 };
    let b = |n: usize| if n % 40 == 5 { 3.0 } else { 1.0 };
    let place = two(a, b);
    let refused = message(merged(&place, None));
    assert!(refused.contains("1 scalars of w (columns 5..6)") && refused.contains("--prefer"), "{refused}");
    assert!(!place.path("merged").exists());
    let expected = |first: &dyn Fn(usize) -> f32, then: &dyn Fn(usize) -> f32| -> Vec<f32> {
        (0..240).map(|n| if first(n) != 1.0 { first(n) } else { then(n) }).collect()
    };
    let merged_as = |prefer| {
        let merged = merged(&place, Some(prefer)).unwrap();
        let tensor = merged.overlaps.iter().find(|overlap| overlap.name == "w").unwrap();
        assert_eq!((tensor.scalars, tensor.differ, tensor.conflict), (1, 1, true));
        assert_eq!((tensor.kind, &tensor.slices[..]), ("columns", &[[5, 6]][..]));
        weights_of(&place, &merged)
    };
    assert_eq!(merged_as(Prefer::First), expected(&a, &b));
    assert_eq!(merged_as(Prefer::Second), expected(&b, &a));
}

#[test]
fn equal_changes_are_no_conflict() {
    let a = |n: usize| if n / 40 == 2 { 2.0 } else { 1.0 };
    let place = two(a, a);
    let merged = merged(&place, None).unwrap();
    let tensor = merged.overlaps.iter().find(|overlap| overlap.name == "w").unwrap();
    assert_eq!((tensor.scalars, tensor.differ, tensor.conflict), (40, 0, false));
    assert_eq!(weights_of(&place, &merged), (0..240).map(a).collect::<Vec<_>>());
}

/// A base and two that were made of it: their patches conflict, and merged are the preferred one's.
fn is_taken_whole(base: &[T], tuned: [&[T]; 2], conflict: &str) {
    let place = Place::with(base, &[]);
    for (name, tensors) in ["a", "b"].into_iter().zip(tuned) {
        let folder = place.model(name, tensors);
        diff(&place.path("base"), &folder, &place.path(&format!("{name}.patch"))).unwrap();
    }
    let refused = message(merged(&place, None));
    assert!(refused.contains(conflict) && refused.contains("config.json"), "{refused}");
    for (prefer, name) in [(Prefer::First, "a"), (Prefer::Second, "b")] {
        let merged = merged(&place, Some(prefer)).unwrap();
        let out = place.path(&format!("out-{name}"));
        merged.patch.apply(&place.path("base"), &out).unwrap();
        for file in ["model.safetensors", "config.json"] {
            assert!(
                std::fs::read(out.join(file)).unwrap() == std::fs::read(place.path(name).join(file)).unwrap()
            );
        }
    }
}

#[test]
fn heads_of_other_shapes_conflict_as_wholes() {
    let head = |n: usize, x: f32| floats("head", &[n, 2], move |_| x);
    is_taken_whole(&[head(2, 0.0)], [&[head(3, 1.0)], &[head(2, 2.0)]], "head as a whole");
}

#[test]
fn a_renamed_tensor_has_one_owner() {
    let renamed = |x: f32| floats("bert.pooler.weight", &[2, 2], move |_| x);
    // Narrowed, so it is one removed and one new.
    let narrowed = || t("bert.pooler.weight", Dtype::BF16, &[2, 2], vec![1; 8]);
    let base = [floats("pooler.weight", &[2, 2], |_| 0.0)];
    is_taken_whole(&base, [&[renamed(1.0)], &[narrowed()]], "pooler.weight as a whole");
    is_taken_whole(&base, [&[narrowed()], &[renamed(1.0)]], "pooler.weight as a whole");
}

#[test]
fn patches_of_other_bases_do_not_merge() {
    let place = two(|_| 2.0, |_| 2.0);
    let other = place.model("other", &[floats("w", &[6, 40], |_| 9.0)]);
    diff(&other, &place.path("b"), &place.path("b.patch")).unwrap();
    let refused = message(merged(&place, None));
    assert!(refused.contains("different bases"), "{refused}");
}
