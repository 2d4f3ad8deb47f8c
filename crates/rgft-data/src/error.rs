//! What can be wrong with data. Each message says where, what was found, what was expected; a second line
//! that starts with `hint:` says what to do. All of them are bad input (exit status 2), none is a failed run.

use std::path::PathBuf;

/// A problem with a data file, a label or a tokenizer.
///
/// Lines and columns count from 1; a line is that on which the row starts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    // ---- files ----
    /// The operating system refused.
    #[error("{}: {reason}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the operating system said. Part of the message, so not repeated as a `source`.
        reason: std::io::Error,
    },
    /// The name does not say how to read the file.
    #[error("{}: unknown kind of table, expected .csv, .tsv, .jsonl, .json or .parquet", path.display())]
    UnknownExtension {
        /// The file.
        path: PathBuf,
    },
    /// A data folder without a training file.
    #[error(
        "{}: no train.csv, train.tsv, train.jsonl, train.json or train.parquet in this folder, which holds {found}\nhint: name the training file itself",
        folder.display()
    )]
    NoTrainFile {
        /// The folder.
        folder: PathBuf,
        /// The tables that are there, or "no table".
        found: String,
    },
    /// A data folder with several files for the same part.
    #[error("{}: {found} could each be the {part} file, expected one\nhint: keep one, or name the file itself", folder.display())]
    Ambiguous {
        /// The folder.
        folder: PathBuf,
        /// "train", "validation" or "test".
        part: &'static str,
        /// Names of the files, comma-separated.
        found: String,
    },

    // ---- bytes ----
    /// Nothing in the file.
    #[error("{}: the file is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A header and nothing below it, or an empty JSON array.
    #[error("{}: no rows, expected at least one", path.display())]
    NoRows {
        /// The file.
        path: PathBuf,
    },
    /// Not UTF-8.
    #[error("{}:{line}: byte {byte} of the line is not UTF-8\nhint: save the file with UTF-8 encoding", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line of the first bad byte.
        line: usize,
        /// Its place in the line, in bytes from 1.
        byte: usize,
    },
    /// A NUL byte: a binary file, or UTF-16.
    #[error("{}:{line}: a NUL byte, expected text\nhint: is this a binary file, or one in UTF-16?", path.display())]
    NulByte {
        /// The file.
        path: PathBuf,
        /// Line of the first NUL.
        line: usize,
    },

    // ---- tables ----
    /// A column that is not in the header, or a key that is not in the object.
    #[error("{}:{line}: no column `{column}`, there are {available}\nhint: name the column with --{option}", path.display())]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// Line of the header or of the object.
        line: usize,
        /// What was looked for.
        column: String,
        /// What is there, comma-separated.
        available: String,
        /// The option that names such a column.
        option: &'static str,
    },
    /// A header that names a column that is needed twice.
    #[error("{}:{line}: column `{column}` appears {times} times in the header, expected once", path.display())]
    DuplicateColumn {
        /// The file.
        path: PathBuf,
        /// Line of the header.
        line: usize,
        /// Its name.
        column: String,
        /// How often it appears.
        times: usize,
    },
    /// A row with more or fewer cells than the header.
    #[error(
        "{}:{line}: {found} columns, expected {expected} ({columns})\nhint: a cell that holds a separator, a quote or a line break must be quoted",
        path.display()
    )]
    Ragged {
        /// The file.
        path: PathBuf,
        /// Line of the row.
        line: usize,
        /// Cells in the row.
        found: usize,
        /// Cells in the header.
        expected: usize,
        /// Names in the header, comma-separated.
        columns: String,
    },
    /// A quoted cell that the end of the file cuts off.
    #[error(
        "{}:{line}: a quote opens in this row and never closes\nhint: a quote inside a quoted cell is written twice (\"\")",
        path.display()
    )]
    UnclosedQuote {
        /// The file.
        path: PathBuf,
        /// Line of the row.
        line: usize,
    },
    /// A line that is not a JSON object.
    #[error("{}:{line}: {message}, expected one JSON object per row", path.display())]
    BadJson {
        /// The file.
        path: PathBuf,
        /// Line of the value, or of the error in it.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// A JSON value of another type.
    #[error("{}:{line}: `{column}` is {found}, expected {expected}", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// Line of the object.
        line: usize,
        /// Its key.
        column: String,
        /// The type that was found.
        found: &'static str,
        /// The types that are possible.
        expected: &'static str,
    },
    /// A table specification with no text column, or with more than two.
    #[error("{found} text columns, expected one, or two for pairs of texts")]
    TextColumns {
        /// How many were named.
        found: usize,
    },

    // ---- tasks and labels ----
    /// A row without a label where one is needed.
    #[error("{}:{line}: no label", path.display())]
    NoLabel {
        /// The file.
        path: PathBuf,
        /// Line of the row.
        line: usize,
    },
    /// A label that the label map does not have.
    #[error("{}:{line}: unknown label `{label}`, the known ones are {known}", path.display())]
    UnknownLabel {
        /// The file.
        path: PathBuf,
        /// Line of the row.
        line: usize,
        /// What was found.
        label: String,
        /// The first labels of the map, comma-separated.
        known: String,
    },
    /// Several labels in a row of a task that takes one.
    #[error("{}:{line}: {found} labels, expected one\nhint: --task text-multi-label takes several", path.display())]
    SeveralLabels {
        /// The file.
        path: PathBuf,
        /// Line of the row.
        line: usize,
        /// How many were found.
        found: usize,
    },
    /// A regression label that is not a finite number.
    #[error("{}:{line}: label `{found}`, expected a finite number", path.display())]
    NotANumber {
        /// The file.
        path: PathBuf,
        /// Line of the row.
        line: usize,
        /// What was found.
        found: String,
    },
    /// Nothing to tell apart.
    #[error("{}: {found}, expected at least {expected}", path.display())]
    TooFewClasses {
        /// The training file.
        path: PathBuf,
        /// "one class (`a`)" or "no label".
        found: String,
        /// "two classes" or "one label".
        expected: &'static str,
    },
    /// A label map in a model's configuration that is not a map.
    #[error("id2label: {message}, expected ids 0, 1, 2 … with a different name each")]
    BadLabelMap {
        /// What is wrong.
        message: String,
    },

    // ---- tokenizers ----
    /// A tokenizer that cannot be read, or that refuses a text.
    #[error("{}: {message}", path.display())]
    Tokenizer {
        /// `tokenizer.json`.
        path: PathBuf,
        /// What the tokenizer said.
        message: String,
    },
    /// A length that leaves no room for text.
    #[error("max-length {max_length}: {special} of these are special tokens, expected at least {least}")]
    MaxLength {
        /// What was asked for, in tokens.
        max_length: usize,
        /// Special tokens that the tokenizer adds.
        special: usize,
        /// The least length that works.
        least: usize,
    },
    /// A text that becomes no token at all, with a tokenizer that adds none of its own.
    #[error("{}:{line}: the text has no tokens, and this tokenizer adds none of its own", path.display())]
    NoTokens {
        /// The file.
        path: PathBuf,
        /// Line of the row.
        line: usize,
    },

    // ---- corpora ----
    /// A model's folder without anything to make ids with.
    #[error(
        "{}: no tokenizer.json and no vocab.json of characters in this folder\nhint: `\"tokenizer\": \"bytes\"` in config.json makes every byte a token",
        folder.display()
    )]
    NoTokenizer {
        /// The folder.
        folder: PathBuf,
    },
    /// A vocabulary of characters that is none.
    #[error("{}: {message}, expected {{\"a\": 0, \"b\": 1, …}} with one character a key and ids from 0 without gaps", path.display())]
    BadVocabulary {
        /// `vocab.json`.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A character that the vocabulary lacks, where such are refused.
    #[error("{}:{line}: the character `{character}` is not in the model's vocabulary\nhint: --unknown-characters replace or drop", path.display())]
    UnknownCharacter {
        /// The file, or "text".
        path: PathBuf,
        /// Its line; of a table that of the row.
        line: usize,
        /// The character, escaped.
        character: String,
    },
    /// Ids beyond the rows of the model's output.
    #[error("{}: it gives the id {id}, but the model has {outputs} tokens (vocab_size in config.json)", path.display())]
    TokenOutOfRange {
        /// The tokenizer or vocabulary.
        path: PathBuf,
        /// The first such id.
        id: u32,
        /// Rows of the output.
        outputs: usize,
    },
    /// No text in any file or row.
    #[error("{}: no text, expected at least one document that is not empty and within the limits", path.display())]
    NoDocuments {
        /// File or folder.
        path: PathBuf,
    },
    /// Documents of one token each, or prompts alone.
    #[error("{}: nothing to predict, expected a document of at least two tokens", path.display())]
    NoSequences {
        /// File or folder.
        path: PathBuf,
    },
    /// A context or stride that cannot be.
    #[error("context {context} and stride {stride}, expected 1 ≤ stride ≤ context")]
    BadContext {
        /// Input tokens of a sequence.
        context: usize,
        /// Tokens between the starts of two.
        stride: usize,
    },

    // ---- time series ----
    /// A folder or a pattern with no file of series.
    #[error("{}: no .csv file here\nhint: name a file, a folder of .csv files, or a pattern with *", path.display())]
    NoSeriesFiles {
        /// The folder or pattern.
        path: PathBuf,
    },
    /// The name does not say how to read the file of series.
    #[error("{}: unknown kind of time series, expected .csv or .tsv", path.display())]
    UnknownSeriesExtension {
        /// The file.
        path: PathBuf,
    },
    /// A setting that no file can fit.
    #[error("{key} {found}, expected {expected}")]
    SeriesSetting {
        /// Its name.
        key: &'static str,
        /// Its value.
        found: String,
        /// What it can be.
        expected: &'static str,
    },
    /// A cell of the date column that does not parse.
    #[error("{}:{line}: `{found}` in column `{column}` is no date, expected {expected}", path.display())]
    NotADate {
        /// The file.
        path: PathBuf,
        /// Line of the row.
        line: usize,
        /// The column of dates.
        column: String,
        /// What was found.
        found: String,
        /// The formats that are read.
        expected: &'static str,
    },
    /// A cell of a series that is neither empty nor a finite number.
    #[error("{}:{line}: `{found}` in column `{column}`, expected a finite number, or nothing where it is missing", path.display())]
    NotANumberInColumn {
        /// The file.
        path: PathBuf,
        /// Line of the row.
        line: usize,
        /// The series.
        column: String,
        /// What was found.
        found: String,
    },
    /// No column of numbers.
    #[error("{}:{line}: no column of numbers among {columns}\nhint: columns are separated by commas in .csv and by tabs in .tsv, and the first row names them", path.display())]
    NoSeries {
        /// The file.
        path: PathBuf,
        /// Line of the header.
        line: usize,
        /// Names in the header, comma-separated.
        columns: String,
    },
    /// A series without a single value.
    #[error("{}: column `{column}` holds no value", path.display())]
    NoValues {
        /// The file.
        path: PathBuf,
        /// The series.
        column: String,
    },
    /// A target that is named twice.
    #[error("target-columns: `{column}` twice")]
    DuplicateTarget {
        /// The series.
        column: String,
    },
    /// Several rows, all of the same time.
    #[error("{}: {rows} rows of one and the same time, expected a series", path.display())]
    OneMoment {
        /// The file.
        path: PathBuf,
        /// How many rows.
        rows: usize,
    },
    /// Dates that are no regular sampling.
    #[error(
        "{}: {rows} moments in {steps} steps of {interval} (their most frequent distance), expected at least every second step\nhint: is a date mistyped? Bring irregular data to regular steps first",
        path.display()
    )]
    Irregular {
        /// The file.
        path: PathBuf,
        /// Different moments.
        rows: usize,
        /// Steps from the first to the last.
        steps: usize,
        /// The step, in words.
        interval: String,
    },
    /// A cell without a value, where none may be missing.
    #[error("{}:{line}: no value in column `{column}`\nhint: --set missing=interpolate fills gaps", path.display())]
    MissingValue {
        /// The file.
        path: PathBuf,
        /// Line of the row.
        line: usize,
        /// The series.
        column: String,
    },
    /// A step without a row, where none may be missing.
    #[error("{}: no row for {time}, one of {missing} missing steps of {interval}\nhint: --set missing=interpolate fills gaps", path.display())]
    MissingStep {
        /// The file.
        path: PathBuf,
        /// The first such step.
        time: String,
        /// The step, in words.
        interval: String,
        /// How many there are.
        missing: usize,
    },
    /// A part of a file that does not hold one window.
    #[error(
        "{}: {found} of {steps} steps for {part}, expected at least {expected}\nhint: a window takes context {context} + horizon {horizon} steps; give more steps, or, before a model is trained, make them smaller or the parts larger",
        path.display()
    )]
    TooFewSteps {
        /// The file.
        path: PathBuf,
        /// Which part.
        part: &'static str,
        /// Its steps.
        found: usize,
        /// Steps of the file.
        steps: usize,
        /// Steps that it needs.
        expected: usize,
        /// Steps seen.
        context: usize,
        /// Steps forecast.
        horizon: usize,
    },
    /// A series that the model was not trained on.
    #[error(
        "series `{name}` has no scale in scaling.json, which has {known}\nhint: name the column that the model knows with --target-columns, or rename it"
    )]
    UnknownSeries {
        /// The series.
        name: String,
        /// The series that are known, comma-separated.
        known: String,
    },
    /// A file of scales that is none.
    #[error("{}: {message}, expected finite means and positive standard deviations by series", path.display())]
    BadScaling {
        /// `scaling.json`.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },

    // ---- images ----
    /// A Parquet file that is cut short, damaged, or of another kind.
    #[error("{}: no Parquet file that can be read: {message}", path.display())]
    BadParquet {
        /// The file.
        path: PathBuf,
        /// What its reader said.
        message: String,
    },
    /// A column that a Parquet file does not have.
    #[error("{}: no column `{column}`, there are {available}\nhint: name the column with --{option}", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        column: String,
        /// What is there, comma-separated.
        available: String,
        /// The option that names such a column.
        option: &'static str,
    },
    /// A column of a Parquet file that holds values of another kind.
    #[error("{}: column `{column}` is {found}, expected {expected}", path.display())]
    ColumnKind {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What it holds.
        found: &'static str,
        /// What it can hold.
        expected: &'static str,
    },
    /// Bytes that are no picture.
    #[error("{place}: no image that can be read: {message}")]
    BadImage {
        /// The file, with the row in it where it holds several.
        place: String,
        /// What the decoder said.
        message: String,
    },
    /// A row without a picture.
    #[error("{place}: no image")]
    NoImage {
        /// The file and the row in it.
        place: String,
    },
    /// A place with no pictures, or none in the expected layout.
    #[error("{}: expected pictures, found {found}\nhint: expected train.parquet, or a folder of images for each class, as in train/cat/1.jpg or cat/1.jpg", path.display())]
    NoImages {
        /// The file or folder.
        path: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// Some of the files of a part.
    #[error("{}: {found} of the {expected} files of `{name}`", folder.display())]
    MissingShards {
        /// The folder.
        folder: PathBuf,
        /// What the files are called, without their numbers.
        name: String,
        /// How many there are.
        found: usize,
        /// How many there should be by their names.
        expected: usize,
    },
    /// A picture without a class where one is needed.
    #[error(
        "{place}: no class\nhint: name the column of classes with --label-column, or put the images of each class into a folder of its name"
    )]
    NoClass {
        /// The file, with the row in it where it holds several.
        place: String,
    },
    /// A class that the label map does not have.
    #[error("{place}: unknown class `{class}`, the known ones are {known}")]
    UnknownClass {
        /// The file, with the row in it where it holds several.
        place: String,
        /// What was found.
        class: String,
        /// The first classes of the map, comma-separated.
        known: String,
    },
    /// A number that is no class.
    #[error("{place}: label {label}, expected 0 to {last}")]
    LabelRange {
        /// The file and the row in it.
        place: String,
        /// What was found.
        label: i64,
        /// The last class.
        last: usize,
    },
    /// A setting of pictures that cannot be.
    #[error("{key}: {found}, expected {expected}")]
    ImageSetting {
        /// Its name.
        key: &'static str,
        /// Its value.
        found: String,
        /// What it can be.
        expected: &'static str,
    },
}

/// The names as a list for a message: at most `limit` of them, each cut at 40 characters.
pub(crate) fn listed<S: AsRef<str>>(names: impl IntoIterator<Item = S>, limit: usize) -> String {
    const LONGEST: usize = 40;
    let mut list = Vec::new();
    let mut more = 0usize;
    for name in names {
        if list.len() == limit {
            more += 1;
            continue;
        }
        let name = name.as_ref();
        match name.char_indices().nth(LONGEST) {
            Some((end, _)) => list.push(format!("{}…", &name[..end])),
            None => list.push(name.to_owned()),
        }
    }
    let text = list.join(", ");
    if more == 0 { text } else { format!("{text} … and {more} more") }
}
