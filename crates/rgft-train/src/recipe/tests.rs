#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use rgft_core::{Alpha, LrRule, Sampling, ScheduleKind};

use super::*;

/// The least that `check()` accepts.
const LEAST: &str = "model = \"minilm\"\ndata = \"trec6\"\ntask = \"text-classification\"\n";

fn read(text: &str) -> Result<RawRecipe, RecipeError> {
    RawRecipe::from_toml(text, Path::new("recipe.toml"))
}

fn checked(more: &str) -> Result<Recipe, RecipeError> {
    read(&format!("{LEAST}{more}"))?.check()
}

fn message(result: Result<impl std::fmt::Debug, RecipeError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn recipes_of_the_experiments_are_recipes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
    let files = [folder.clone(), folder.join("pretrain")].map(|folder| std::fs::read_dir(folder).unwrap());
    let files = files.into_iter().flatten().map(|entry| entry.unwrap().path());
    let recipes: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    assert!(recipes.len() > 20, "{recipes:?}");
    for file in recipes {
        RawRecipe::from_file(&file).and_then(RawRecipe::check).unwrap();
    }
}

#[test]
fn defaults_in_the_table_are_the_defaults_in_force() {
    let written = checked("lr-rule = \"mean-one\"").unwrap().to_raw();
    for key in Recipe::keys() {
        if ["model", "data", "task", "lr-rule"].contains(&key.name) {
            continue;
        }
        let found = written.values().get(key.name).cloned();
        // `none` is a word of some lists, and otherwise says that there is no default.
        if key.default.starts_with("none") && key.kind != KeyType::Word {
            assert_eq!(found, None, "{}", key.name);
            continue;
        }
        // The default as a user would type it.
        let mut typed = RawRecipe::default();
        typed.set(key.name, key.default.split(" for ").next().unwrap()).unwrap();
        assert_eq!(found, typed.values().get(key.name).cloned(), "{}", key.name);
    }
    assert_eq!(checked("").unwrap().lr_rule, LrRule::Uniform);
}

#[test]
fn budget_depends_on_the_method() {
    for (method, budget) in
        [("rgft", 0.3), ("random", 0.3), ("static", 0.3), ("full-short", 0.3), ("full", 1.0), ("head", 1.0)]
    {
        assert_eq!(checked(&format!("method = \"{method}\"")).unwrap().budget, budget, "{method}");
        assert_eq!(checked(&format!("method = \"{method}\"\nbudget = 0.5")).unwrap().budget, 0.5, "{method}");
    }
}

#[test]
fn only_and_its_globs_go_together() {
    assert_eq!(checked("method = \"only\"\nonly = \"head\"").unwrap().only, ["head"]);
    for half in ["method = \"only\"", "only = [\"head\"]"] {
        assert!(message(checked(half)).contains("go together"));
    }
}

#[test]
fn every_key_is_documented_and_every_word_of_its_list_is_accepted() {
    for key in Recipe::keys() {
        assert!(!key.help.is_empty() && !key.help.ends_with('.') && !key.expected.is_empty(), "{key:?}");
        if key.kind == KeyType::Word {
            for word in key.expected.replace(" or ", ", ").split(", ") {
                let mut raw = read(LEAST).unwrap();
                raw.set(key.name, word).unwrap();
                if word == "only" {
                    raw.set("only", "head").unwrap();
                }
                raw.check().unwrap_or_else(|error| panic!("{} = {word}: {error}", key.name));
            }
        }
    }
}

#[test]
fn words_are_spelt_the_same_everywhere() {
    for task in Task::ALL {
        assert_eq!(task.name().parse::<Task>().unwrap(), *task);
        assert_eq!(toml::Value::try_from(task).unwrap().as_str(), Some(task.name()));
    }
    assert_eq!(
        "sgdd".parse::<OptimizerName>().unwrap_err().to_string(),
        "`sgdd`: expected one of adamw, sgd"
    );
}

#[test]
fn a_recipe_is_written_complete_and_reads_back_the_same() {
    let plain = checked("").unwrap();
    let strange = checked(
        "out = \"a \\\"b\\\"\\n#\"\ntest = \"t.csv\"\nvalidation = \"v.csv\"\ntext-column = [\"premise\", \"hypothesis\"]\n\
         label-column = \"gold\"\nbudget = 0.05\nseed = 9223372036854775807\nepochs = 0.1\nlearning-rate = 1e-30\n\
         head-learning-rate = 1e-3\ndropout = 0.0\nschedule = \"cosine\"\nvalidate-every = 7\npatience = 2\nroll-back = 3\n\
         lr-rule = \"mean-one\"\nlr-rule-gamma = 0.5\nlr-rule-min = 0\nlr-rule-max = 3\nprecision = \"bf16\"\n\
         [alpha]\n\"z.*\" = 2.0\n\"a.*\" = 0.5\n\"*\" = 1",
    )
    .unwrap();
    assert_eq!(strange.schedule, ScheduleKind::Cosine);
    let table = [("z.*", 2.0), ("a.*", 0.5), ("*", 1.0)].map(|(glob, x)| (glob.to_owned(), x));
    assert_eq!(strange.alpha, Alpha::Table(table.to_vec()), "the order decides which glob wins");
    let many = Recipe { task: Task::TextMultiLabel, label_separator: Some(" ".into()), ..plain.clone() };

    for recipe in [plain, strange, many] {
        let text = recipe.to_toml();
        let again = read(&text).and_then(RawRecipe::check).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(again, recipe, "{text}");
        assert_eq!(again.to_toml(), text);
        for key in Recipe::keys().iter().filter(|key| !key.default.starts_with("none")) {
            let needs_mean_one = key.name.starts_with("lr-rule-") && recipe.lr_rule == LrRule::Uniform;
            assert!(
                needs_mean_one || text.contains(&format!("\n{} = ", key.name)),
                "{} is missing",
                key.name
            );
        }
    }
}

#[test]
fn later_settings_win() {
    let mut raw = read(&format!("{LEAST}epochs = 1\nbatch-size = 8\nseed = 1")).unwrap();
    let mut set = RawRecipe::default();
    set.assign("epochs=2").unwrap();
    set.assign(" batch-size = 16 ").unwrap();
    let mut flags = RawRecipe::default();
    flags.set("epochs", "3.5").unwrap();
    raw.merge(set);
    raw.merge(flags);
    let recipe = raw.check().unwrap();
    assert_eq!((recipe.epochs, recipe.batch_size, recipe.seed), (3.5, 16, 1));
}

#[test]
fn typed_values_need_no_quotation_marks() {
    let mut raw = read(LEAST).unwrap();
    for assignment in [
        "model=C:\\models\\a=b",
        "text-column=[\"a\", \"b\"]",
        "label-column=y",
        "learning-rate=.5",
        "clip=0",
        "alpha={ \"x.*\" = 2, \"*\" = 0.5 }",
    ] {
        raw.assign(assignment).unwrap();
    }
    let recipe = raw.check().unwrap();
    assert_eq!(recipe.model, PathBuf::from("C:\\models\\a=b"));
    assert_eq!(recipe.text_columns, ["a", "b"]);
    assert_eq!((recipe.label_column.as_str(), recipe.learning_rate, recipe.clip), ("y", 0.5, 0.0));
    assert_eq!(recipe.alpha, Alpha::Table(vec![("x.*".into(), 2.0), ("*".into(), 0.5)]));
}

#[test]
fn head_learns_faster_when_it_is_fresh() {
    let recipe = checked("").unwrap();
    assert_eq!((recipe.head_learning_rate(true), recipe.head_learning_rate(false)), (1e-3, 1e-4));
    let recipe = checked("learning-rate = 0.01").unwrap();
    assert_eq!((recipe.head_learning_rate(true), recipe.head_learning_rate(false)), (0.01, 0.01));
    let recipe = checked("head-learning-rate = 2e-5").unwrap();
    assert_eq!((recipe.head_learning_rate(true), recipe.head_learning_rate(false)), (2e-5, 2e-5));
}

#[test]
fn numbers_out_of_range_are_named_with_what_was_expected() {
    assert_eq!(message(checked("learning-rate = -1")), "learning-rate = -1: expected a number above 0");
    for (setting, expected) in [
        ("learning-rate = nan", "learning-rate = NaN: expected a number above 0"),
        ("epochs = inf", "epochs = inf: expected a number above 0, up to 10000"),
        ("budget = 0", "budget = 0: expected a number above 0, up to 1"),
        ("budget = 1.5", "budget = 1.5: expected a number above 0, up to 1"),
        ("batch-size = 0", "batch-size = 0: expected a whole number from 1"),
        ("validate-every = 0", "validate-every = 0: expected a whole number from 1"),
        ("beta2 = 1", "beta2 = 1: expected a number from 0, below 1"),
        ("breadth = 0", "breadth = 0: expected a number above 0, up to 1"),
        ("lr-rule-min = 2", "lr-rule-min = 2: expected a number from 0 to 1"),
        (
            "signal = \"guess\"",
            "signal = guess: expected coherent, sketch, gram, exact, absolute, taylor, fisher, relative, covariance or depth",
        ),
        (
            "alpha = \"fair\"",
            "alpha = fair: expected per-parameter, relative, uniform, or a table from globs to numbers from 0",
        ),
        ("text-column = []", "text-column = []: expected a column name, or an array of two"),
        (
            "text-column = [\"a\", \"a\"]",
            "text-column = [\"a\", \"a\"]: expected a column name, or an array of two",
        ),
        ("label-column = \"text\"", "label-column = text: expected a column name that is no text column"),
        ("out = \"\"", "out = \"\": expected a folder"),
    ] {
        assert_eq!(message(checked(setting)), expected);
    }
    assert!(message(checked("alpha = { \"a\" = -1.0 }")).starts_with("alpha = { \"a\" = -1 }: expected "));
    assert!(message(checked("alpha = { \"a[\" = 1.0 }")).contains("a["));
    assert!(message(checked("label-separator = \"|\"")).contains("has one label per row"));
    let largest = RawRecipe { seed: Some(u64::MAX), ..read(LEAST).unwrap() };
    assert!(message(largest.check()).starts_with("seed = 18446744073709551615: expected "));
}

#[test]
fn wrong_types_are_named_with_file_and_line() {
    for (text, expected) in [
        ("\nepochs = \"three\"", "recipe.toml:2: epochs = \"three\": expected a number above 0, up to 10000"),
        ("seed = -1", "recipe.toml:1: seed = -1: expected a whole number from 0 to 9223372036854775807"),
        ("batch-size = 3.5", "recipe.toml:1: batch-size = 3.5: expected a whole number from 1"),
        (
            "method = \"ful\"",
            "recipe.toml:1: method = \"ful\": expected full, full-short, head, last-k, only, bitfit, norm, lora, rslora, s2ft, lisa, badam, auto-rgn, greentrainer, selective-backprop, random, static or rgft",
        ),
        ("# a\n# b\n[model]\nx = 1", "recipe.toml:3: model = { x = 1 }: expected a folder"),
    ] {
        assert_eq!(message(read(text)), expected);
    }
    assert!(message(read("epochs = 1\nepochs =")).starts_with("recipe.toml:2: not TOML: "));
    assert!(message(read("epochs = 1\nseed = 1\nepochs = 2")).starts_with("recipe.toml:3: not TOML: "));

    let mut raw = RawRecipe::default();
    assert_eq!(message(raw.assign("epochs=three")), "epochs = three: expected a number above 0, up to 10000");
    assert_eq!(
        message(raw.assign("seed=1.5")),
        "seed = 1.5: expected a whole number from 0 to 9223372036854775807"
    );
    assert_eq!(
        message(raw.assign("task=text")),
        "task = text: expected text-classification, text-multi-label, text-regression, image-classification, causal-lm, code or forecasting"
    );
    assert!(message(raw.assign("epochs")).starts_with("--set epochs: expected key=value\nhint: "));
    assert!(message(raw.assign("=3")).starts_with("--set =3: expected key=value"));
    assert_eq!(raw, RawRecipe::default(), "a refused setting changes nothing");
}

#[test]
fn an_unknown_key_is_met_with_the_closest_one() {
    assert_eq!(
        message(read("epochs = 1\nlearning-rte = 1e-4")),
        "recipe.toml:2: unknown key `learning-rte`\nhint: the closest key is `learning-rate`"
    );
    for (typed, closest) in [
        ("learning_rate", "learning-rate"),
        ("lr", "learning-rate"),
        ("bs", "batch-size"),
        ("epoch", "epochs"),
        ("Seed", "seed"),
        ("warm-up", "warmup"),
        ("lr-rule-minimum", "lr-rule-min"),
    ] {
        let error = message(RawRecipe::default().set(typed, "1"));
        assert_eq!(error, format!("unknown key `{typed}`\nhint: the closest key is `{closest}`"));
    }
}

#[test]
fn required_keys_are_asked_for() {
    assert_eq!(
        message(read("model = \"m\"\ntask = \"text-regression\"").unwrap().check()),
        "data is missing: expected a file or a folder\nhint: add --data, or the key `data` to the recipe"
    );
    let raw = read(LEAST).unwrap();
    assert!(raw.require("model").is_ok());
    assert!(message(raw.require("out")).starts_with("out is missing: expected a folder\nhint: add --out"));
}

#[test]
fn a_recipe_that_cannot_be_read_is_named() {
    let error = RawRecipe::from_file(Path::new("no/such/recipe.toml")).unwrap_err();
    assert_eq!(error.to_string(), "no/such/recipe.toml: cannot read the recipe");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn methods_that_plan_sample_by_residuals_and_others_when_told() {
    let sampling = |text: &str| checked(text).unwrap().sampling;
    for method in ["rgft", "random", "static"] {
        assert_eq!(sampling(&format!("method = \"{method}\"")), Sampling::Unbiased);
    }
    assert_eq!(sampling("method = \"full-short\""), Sampling::Off);
    assert_eq!(sampling("method = \"full-short\"\nsampling = \"focus\""), Sampling::Focus);
    assert_eq!(sampling("sampling = \"off\""), Sampling::Off);
}

#[test]
fn a_validation_part_is_more_than_nothing_and_half_at_most() {
    assert_eq!(checked("validation-part = 0.5").unwrap().validation_part, 0.5);
    for part in ["0.0", "0.6", "-0.1", "nan"] {
        assert!(message(checked(&format!("validation-part = {part}"))).contains("validation-part"));
    }
}
