//! Time series: what windows hold, what may not leak into them, and files that are wrong.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use rgft_core::{Extent, Inputs};
use rgft_data::{
    DataError, Dataset, Missing, Scaling, SeriesDataset, SeriesParts, SeriesScaling, SeriesSpec, SeriesTable,
    Targets, parse_series, read_series,
};

fn spec(context: usize, horizon: usize) -> SeriesSpec {
    SeriesSpec { context, horizon, ..SeriesSpec::default() }
}

fn parse(text: &str, spec: &SeriesSpec) -> Result<SeriesTable, DataError> {
    parse_series(Path::new("s.csv"), text.as_bytes(), spec)
}

fn message<T>(result: Result<T, DataError>) -> String {
    result.err().unwrap().to_string()
}

/// A row for each day from 2020-01-01, with a column for each function.
fn daily(rows: usize, columns: &[&dyn Fn(usize) -> f64]) -> String {
    let months = [31, 29, 31, 30, 31, 30].into_iter().zip(1..);
    let dates =
        months.flat_map(|(days, month)| (1..=days).map(move |day| format!("2020-{month:02}-{day:02}")));
    let mut text = String::from("date");
    (0..columns.len()).for_each(|c| write!(text, ",s{c}").unwrap());
    for (i, date) in dates.take(rows).enumerate() {
        write!(text, "\n{date}").unwrap();
        columns.iter().for_each(|f| write!(text, ",{}", f(i)).unwrap());
    }
    text
}

/// Rows without dates.
fn counted(rows: usize, f: impl Fn(usize) -> f64) -> String {
    (0..rows).fold(String::from("x"), |text, i| text + "\n" + &f(i).to_string())
}

/// Context and horizon of an example.
fn window(data: &SeriesDataset, example: usize) -> (Vec<f32>, Vec<f32>) {
    let batch = data.pack(&[example], None);
    let (Inputs::Series(series), Targets::Values(values, horizon)) = (batch.inputs, batch.targets) else {
        panic!("windows are series with values")
    };
    assert_eq!((series.steps, horizon), (data.context(), data.horizon()));
    (series.values, values)
}

// ---- windows ----

#[test]
fn windows_of_each_part_and_nothing_from_the_future() {
    let spec = SeriesSpec { scaling: Scaling::None, ..spec(4, 2) };
    let table = parse(&counted(40, |i| i as f64), &spec).unwrap();
    let SeriesParts { train, validation, test, .. } = SeriesParts::split(&table, &spec).unwrap();
    let (validation, test) = (validation.unwrap(), test.unwrap());
    // 28 steps for training, 4 for validation, 8 for the test.
    assert_eq!((train.len(), validation.len(), test.len()), (28 - 6 + 1, 3, 7));
    assert_eq!(window(&train, 0), (vec![0.0, 1.0, 2.0, 3.0], vec![4.0, 5.0]));
    assert_eq!(window(&train, 22).1, [26.0, 27.0]);
    assert_eq!(window(&validation, 0), (vec![24.0, 25.0, 26.0, 27.0], vec![28.0, 29.0]));
    assert_eq!(window(&validation, 2).1, [30.0, 31.0]);
    assert_eq!(window(&test, 0), (vec![28.0, 29.0, 30.0, 31.0], vec![32.0, 33.0]));
    assert_eq!(window(&test, 6).1, [38.0, 39.0]);

    let sparse = SeriesSpec { stride: 5, evaluation_stride: 3, test_part: 0.3, validation_part: 0.0, ..spec };
    let parts = SeriesParts::split(&table, &sparse).unwrap();
    assert!(parts.validation.is_none());
    assert_eq!((parts.train.len(), parts.test.as_ref().unwrap().len()), (5, 4));
    assert_eq!(window(&parts.train, 4), (vec![20.0, 21.0, 22.0, 23.0], vec![24.0, 25.0]));
    assert_eq!(window(&parts.test.unwrap(), 1).1, [31.0, 32.0]);
    assert_eq!(window(&train.subset([3, 1]), 1), window(&train, 1));
}

#[test]
fn several_series_are_examples_of_their_own() {
    let spec = SeriesSpec { scaling: Scaling::None, test_part: 0.0, validation_part: 0.0, ..spec(3, 2) };
    let table = parse(&daily(20, &[&|i| i as f64, &|i| 100.0 + i as f64]), &spec).unwrap();
    let train = SeriesParts::split(&table, &spec).unwrap().train;
    assert_eq!((train.len(), train.outputs(), train.size(5)), (32, 2, 3));
    assert_eq!(window(&train, 2).0, [1.0, 2.0, 3.0]);
    assert_eq!(window(&train, 3), (vec![101.0, 102.0, 103.0], vec![104.0, 105.0]));
    assert_eq!((train.unit(3).name.as_str(), train.time(3, 1)), ("s1", Some("2020-01-06".to_owned())));
    assert_eq!(train.extent(&[7, 0, 1]), Extent::Sequences(vec![3; 3]));
    let named = SeriesSpec { targets: vec!["s1".into()], ..spec };
    let one = parse(&daily(20, &[&|i| i as f64, &|i| 100.0 + i as f64]), &named).unwrap();
    assert_eq!((one.names.len(), one.values[0][0]), (1, 100.0));
}

#[test]
fn scales_know_the_training_part_alone() {
    // What comes after the training part is wild.
    let values = |i: usize| if i < 70 { [2.0, 6.0][i % 2] } else { 1e6 };
    let spec = spec(4, 2);
    let table = parse(&daily(100, &[&values, &|_| 5.0]), &spec).unwrap();
    let parts = SeriesParts::split(&table, &spec).unwrap();
    let units: Vec<_> = parts.scaling.series.iter().map(|unit| (unit.mean, unit.std)).collect();
    assert_eq!(units, [(4.0, 2.0), (5.0, 1.0)]);
    assert_eq!(window(&parts.train, 0), (vec![-1.0, 1.0, -1.0, 1.0], vec![-1.0, 1.0]));
    assert_eq!(window(&parts.train, 1).0, [0.0; 4]);
    let unit = parts.train.unit(0);
    assert_eq!((unit.scale(10.0), unit.unscale(3.0)), (3.0, 10.0));

    // Another file, under the same scale.
    let other = parse("date,s0\n2021-01-01,8\n2021-01-02,4\n2021-01-03,2\n2021-01-04,4", &spec).unwrap();
    let spec = SeriesSpec { context: 2, horizon: 1, ..spec };
    let whole = SeriesDataset::whole(&other, &spec, &parts.scaling, 1).unwrap();
    assert_eq!((whole.len(), window(&whole, 0)), (2, (vec![2.0, 0.0], vec![-1.0])));
    let folder = tempfile::tempdir().unwrap();
    parts.scaling.save(folder.path()).unwrap();
    assert_eq!(SeriesScaling::load(folder.path()).unwrap(), parts.scaling);
}

#[test]
fn the_future_follows_the_last_context() {
    let spec = SeriesSpec { scaling: Scaling::None, ..spec(3, 2) };
    let table = parse(&daily(30, &[&|i| i as f64, &|i| -(i as f64)]), &spec).unwrap();
    let scaling = SeriesScaling::fit(&table, 30, Scaling::None);
    let future = SeriesDataset::future(&table, &spec, &scaling).unwrap();
    let batch = future.pack(&[0, 1], None);
    assert_eq!(batch.targets, Targets::Unknown);
    let Inputs::Series(series) = batch.inputs else { panic!("series") };
    assert_eq!(series.values, [27.0, 28.0, 29.0, -27.0, -28.0, -29.0]);
    assert_eq!(future.time(1, 0).as_deref(), Some("2020-01-31"));
    assert!(future.baselines().is_empty());
}

#[test]
fn naive_forecasts_by_hand() {
    // A season of 3 that grows by 1 each time.
    let value = |i: usize| [0.0, 5.0, 1.0][i % 3] + (i / 3) as f64;
    let spec = SeriesSpec {
        season: Some(3),
        scaling: Scaling::None,
        validation_part: 0.0,
        test_part: 0.25,
        ..spec(1, 4)
    };
    let table = parse(&counted(16, value), &spec).unwrap();
    let test = SeriesParts::split(&table, &spec).unwrap().test.unwrap();
    assert_eq!(window(&test, 0), (vec![4.0], vec![4.0, 9.0, 5.0, 5.0]));
    let found = test.baselines();
    // Against 4: 0, 5, 1, 1. Against the season before (3, 8, 4, 3): 1, 1, 1, 2.
    assert_eq!(found["mse_last_value"], 27.0 / 4.0);
    assert_eq!(found["mae_last_value"], 7.0 / 4.0);
    assert_eq!((found["mse_seasonal"], found["mae_seasonal"]), (7.0 / 4.0, 5.0 / 4.0));

    // Before the first season there is the last value only; without dates no season is known.
    let parts = SeriesParts::split(&table, &SeriesSpec { season: Some(100), ..spec.clone() }).unwrap();
    assert!(parts.train.baselines().contains_key("mse_last_value"));
    let unknown = SeriesSpec { season: None, ..spec };
    let table = parse(&counted(16, value), &unknown).unwrap();
    assert_eq!(table.season(), None);
    assert_eq!(SeriesParts::split(&table, &unknown).unwrap().train.baselines().len(), 2);
}

// ---- making rows regular ----

#[test]
fn rows_out_of_order_duplicates_and_gaps_are_told() {
    let text = "when,load\n\
                2020-03-01 02:00,30\n2020-03-01 00:00,10\n2020-03-01 01:00,20\n2020-03-01 01:00,22\n\
                2020-03-01 06:00,NaN\n2020-03-01 07:00,80\n2020-03-01 03:00,\n2020-03-01 05:00,60\n\
                2020-03-01 08:04,90\n2020-03-01 09:00,95\n2020-03-01 15:00,155\n2020-03-01 16:00,170";
    let table = parse(text, &spec(3, 1)).unwrap();
    let expected =
        [10., 21., 30., 40., 50., 60., 70., 80., 90., 95., 105., 115., 125., 135., 145., 155., 170.];
    assert_eq!(table.values, [expected]);
    assert_eq!(
        table.notes,
        [
            "5 rows out of order (the first in line 3): sorted by time",
            "1 row between steps of 1 hour: moved to the nearest step",
            "1 row with the time of another row (the first in line 5): values averaged",
            "6 of 17 steps of 1 hour without a row: interpolated",
            "the longest gap begins at 2020-03-01 10:00:00 and takes 5 steps: windows inside it see interpolated values only",
            "2 cells of column `load` without a value: interpolated",
        ]
    );
    assert_eq!((table.season(), table.interval().as_deref()), (Some(24), Some("1 hour")));

    let refuse = SeriesSpec { missing: Missing::Refuse, ..spec(3, 1) };
    assert_eq!(
        message(parse(text, &refuse)),
        "s.csv:8: no value in column `load`\nhint: --set missing=interpolate fills gaps"
    );
    let text = text.replace("03:00,", "03:00,40").replace("NaN", "70");
    assert_eq!(
        message(parse(&text, &refuse)),
        "s.csv: no row for 2020-03-01 04:00:00, one of 6 missing steps of 1 hour\nhint: --set missing=interpolate fills gaps"
    );
    assert!(parse(&daily(50, &[&|i| i as f64]), &refuse).unwrap().notes.is_empty());
}

#[test]
fn columns_are_found_by_what_they_hold() {
    let text = ",id,a,note\n2020-01-01,x,1,\n2020-01-02,y,2,\n2020-01-03,z,,\n";
    let table = parse(text, &spec(1, 1)).unwrap();
    assert_eq!((table.names[0].as_str(), table.names.len()), ("a", 1));
    assert_eq!(table.values[0], [1.0, 2.0, 2.0]);
    assert_eq!(
        table.notes[..2],
        [
            "column 2 (`id`) holds no numbers and is left out",
            "column 4 (`note`) holds no numbers and is left out"
        ]
    );
    let unnamed = parse(",a\n0,5\n1,6\n", &spec(1, 1)).unwrap();
    assert_eq!((unnamed.names.len(), unnamed.time(0)), (1, None));
    // Dates may stand anywhere.
    let last = SeriesSpec { date_column: Some("t".into()), ..spec(1, 1) };
    let table = parse("a,t\n2,2020-01-02\n1,2020-01-01\n", &last).unwrap();
    assert_eq!((table.values[0].clone(), table.names.len()), (vec![1.0, 2.0], 1));
    let tabs = parse_series(
        Path::new("s.TSV"),
        b"\xef\xbb\xbft\ta\r\n2020-01-01\t1\r\n\r\n2020-01-02\t2\r\n",
        &spec(1, 1),
    );
    assert_eq!(tabs.unwrap().values[0], [1.0, 2.0]);
}

#[test]
fn months_are_steps_of_unequal_length() {
    let text = "m,a\n2019-11-30,1\n2019-12-31,2\n2020-01-31,3\n2020-02-29,4\n2020-04-30,6\n";
    let table = parse(text, &spec(1, 1)).unwrap();
    assert_eq!(table.values[0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!((table.season(), table.time(6).as_deref()), (Some(12), Some("2020-05-31")));
}

// ---- files that are wrong ----

#[test]
fn cells_that_are_no_numbers_or_dates() {
    let refused = |text: &str| message(parse(text, &spec(1, 1)));
    assert_eq!(
        refused("t,a\n2020-01-01,1\n2020-01-02,abc\n2020-01-03,3\n2020-01-04,4\n"),
        "s.csv:3: `abc` in column `a`, expected a finite number, or nothing where it is missing"
    );
    assert!(refused("t,a\n2020-01-01,1\n2020-01-02,inf\n2020-01-03,3\n").starts_with("s.csv:3: `inf`"));
    assert!(refused("t,a\n2020-01-01,\"1,5\"\n2020-01-02,2\n2020-01-03,3\n").starts_with("s.csv:2: `1,5`"));
    assert_eq!(
        refused("t,a\n2020-01-01,1\n\n2020-02-30,2\n2020-01-03,3\n"),
        "s.csv:4: `2020-02-30` in column `t` is no date, expected YYYY-MM-DD, YYYY-MM-DD HH:MM[:SS] (or with T, Z, an \
         offset), YYYY/MM/DD or DD.MM.YYYY"
    );
    assert!(refused("t,a\n2020-01-01,1\n,2\n2020-01-03,3\n").starts_with("s.csv:3: `` in column `t`"));
    let dates = SeriesSpec { date_column: Some("a".into()), ..spec(1, 1) };
    assert!(message(parse("a,b\n07/01/2020,1\n", &dates)).starts_with("s.csv:2: `07/01/2020` in column `a`"));
}

#[test]
fn shapes_that_are_wrong() {
    let refused = |text: &str| message(parse(text, &spec(1, 1)));
    assert_eq!(
        refused("t,a\n2020-01-01,1\n2020-01-02,2,3\n"),
        "s.csv:3: 3 columns, expected 2 (t, a)\nhint: a cell that holds a separator, a quote or a line break must be quoted"
    );
    assert_eq!(refused(""), "s.csv: the file is empty");
    assert_eq!(refused("t,a\n"), "s.csv: no rows, expected at least one");
    assert!(refused("t,a\nu\0,1\n").starts_with("s.csv:2: a NUL byte"));
    assert!(
        refused("a;b\n1;2\n")
            .starts_with("s.csv:1: no column of numbers among a;b\nhint: columns are separated")
    );
    assert_eq!(
        refused("t,a\n2020-01-01,1\n2020-01-01,2\n"),
        "s.csv: 2 rows of one and the same time, expected a series"
    );
    assert!(refused("a,a\n1,2\n").contains("column `a` appears 2 times in the header"));
    assert_eq!(
        message(parse_series(Path::new("s.xls"), b"a\n1\n", &spec(1, 1))),
        "s.xls: unknown kind of time series, expected .csv or .tsv"
    );
    let empty = SeriesSpec { targets: vec!["a".into()], ..spec(1, 1) };
    assert_eq!(message(parse("a,b\nNA,1\n?,2\n", &empty)), "s.csv: column `a` holds no value");
}

#[test]
fn a_mistyped_date_does_not_become_a_century_of_gaps() {
    let text = daily(20, &[&|i| i as f64]).replace("2020-01-17", "2920-01-17");
    assert_eq!(
        message(parse(&text, &spec(1, 1))),
        "s.csv: 20 moments in 328735 steps of 1 day (their most frequent distance), expected at least every second step\n\
         hint: is a date mistyped? Bring irregular data to regular steps first"
    );
    let far = "t,a\n0001-01-01 00:00:00.000001,1\n0001-01-01 00:00:00.000002,1\n9999-12-31,2\n";
    assert!(message(parse(far, &spec(1, 1))).contains("of 1 microsecond "));
}

#[test]
fn columns_that_are_not_there() {
    let text = daily(9, &[&|i| i as f64]);
    let target = SeriesSpec { targets: vec!["OT".into()], ..spec(1, 1) };
    assert_eq!(
        message(parse(&text, &target)),
        "s.csv:1: no column `OT`, there are date, s0\nhint: name the column with --target-columns"
    );
    let date = SeriesSpec { date_column: Some("time".into()), ..spec(1, 1) };
    assert!(message(parse(&text, &date)).ends_with("name the column with --date-column"));
    let twice = SeriesSpec { targets: vec!["s0".into(), "s0".into()], ..spec(1, 1) };
    assert_eq!(message(parse(&text, &twice)), "target-columns: `s0` twice");
}

#[test]
fn parts_that_hold_no_window() {
    let spec = spec(10, 5);
    let split = |rows, spec: &SeriesSpec| {
        SeriesParts::split(&parse(&counted(rows, |i| i as f64), spec).unwrap(), spec)
    };
    assert_eq!(
        message(split(20, &spec)),
        "s.csv: 14 of 20 steps for training, expected at least 15\n\
         hint: a window takes context 10 + horizon 5 steps; give more steps, or, before a model is trained, make them smaller or the parts larger"
    );
    assert!(
        message(split(30, &spec)).starts_with("s.csv: 3 of 30 steps for validation, expected at least 5")
    );
    let all = SeriesSpec { validation_part: 0.0, test_part: 0.0, ..spec.clone() };
    assert_eq!(split(15, &all).unwrap().train.len(), 1);
    let table = parse(&counted(12, |i| i as f64), &spec).unwrap();
    let scaling = SeriesScaling::fit(&table, 12, Scaling::Standard);
    assert!(
        message(SeriesDataset::whole(&table, &spec, &scaling, 1)).contains("12 of 12 steps for all windows")
    );
    assert_eq!(SeriesDataset::future(&table, &spec, &scaling).unwrap().len(), 1);
    let unknown = parse(&daily(20, &[&|i| i as f64]), &spec).unwrap();
    assert_eq!(
        message(SeriesDataset::whole(&unknown, &spec, &scaling, 1)),
        "series `s0` has no scale in scaling.json, which has x\n\
         hint: name the column that the model knows with --target-columns, or rename it"
    );
}

#[test]
fn settings_that_fit_no_file() {
    let refused = |spec: SeriesSpec| message(parse("a\n1\n", &spec));
    assert_eq!(refused(spec(0, 1)), "context 0, expected at least 1");
    assert_eq!(refused(spec(1, 0)), "horizon 0, expected at least 1");
    assert_eq!(refused(SeriesSpec { season: Some(0), ..spec(1, 1) }), "season 0, expected at least 1");
    assert_eq!(
        refused(SeriesSpec { test_part: f64::NAN, ..spec(1, 1) }),
        "test-part NaN, expected at least 0 and below 1"
    );
    assert!(
        refused(SeriesSpec { test_part: 0.5, validation_part: 0.5, ..spec(1, 1) })
            .contains("expected below 1")
    );
}

#[test]
fn scales_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |text: &str| {
        std::fs::write(folder.path().join(SeriesScaling::FILE), text).unwrap();
        message(SeriesScaling::load(folder.path()))
    };
    assert!(refused("[1]").contains("scaling.json: "));
    assert!(
        refused(r#"{"series":[{"name":"a","mean":1,"std":0}]}"#).contains("series `a` has mean 1 and std 0")
    );
    std::fs::remove_file(folder.path().join(SeriesScaling::FILE)).unwrap();
    assert!(matches!(SeriesScaling::load(folder.path()), Err(DataError::Io { .. })));
}

// ---- public files ----

/// `<workspace>/../shared/assets/data/timeseries/<name>`, or nothing with the reason printed.
fn asset(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/assets/data/timeseries");
    let path = folder.join(name);
    if !path.exists() {
        eprintln!("skipped: no {}", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn the_public_files_are_read_whole() {
    // Series, steps, season, and steps that have no row.
    let expected = [
        ("AEP_hourly.csv", 1, 121_296, Some(24), 27),
        ("COMED_hourly.csv", 1, 66_504, Some(24), 11),
        ("PJME_hourly.csv", 1, 145_392, Some(24), 30),
        ("ETTh1.csv", 7, 17_420, Some(24), 0),
        ("taxi_new_york_passengers.csv", 1, 10_320, Some(48), 0),
        ("exchange_rate.csv", 8, 7_588, None, 0),
    ];
    for (name, series, steps, season, missing) in expected {
        let Some(path) = asset(name) else { continue };
        let spec = spec(96, 24);
        let table = read_series(&path, &spec).unwrap();
        assert_eq!((table.names.len(), table.steps(), table.season()), (series, steps, season), "{name}");
        let note = format!("{missing} of {steps} steps of 1 hour without a row: interpolated");
        assert_eq!(table.notes.contains(&note), missing > 0, "{name}: {:?}", table.notes);
        let test = SeriesParts::split(&table, &spec).unwrap().test.unwrap();
        assert_eq!(test.len(), series * ((steps as f64 * 0.2).round() as usize - 23), "{name}");
        let found = test.baselines();
        eprintln!("{name}: naive forecasts of the test part: {found:?}");
        assert!(found.values().all(|error| error.is_finite() && *error > 0.0), "{name}: {found:?}");
        if season.is_some() {
            assert!(found["mse_seasonal"] < found["mse_last_value"], "{name}: {found:?}");
        }
    }
}
