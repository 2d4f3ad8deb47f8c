//! A CSV or TSV file to columns of numbers and, where there is one, a column of dates. Rows stay as they stand here;
//! making them regular is the next step's work.

use std::collections::BTreeSet;
use std::path::Path;

use super::{SeriesSpec, SeriesTable, dates, regular};
use crate::error::{DataError, listed};
use crate::files::extension;
use crate::table::{Lines, decode};

/// Largest value of a series: squares of larger ones overflow where they are summed up.
const LARGEST: f64 = 1e100;

/// How a cell without a value may be written, in lower case.
const MISSING: [&str; 8] = ["", "nan", "na", "n/a", "null", "none", "-", "?"];

/// The rows of a file, in its order.
pub(super) struct Rows {
    /// On which line each starts, from 1.
    pub lines: Vec<usize>,
    /// When each was, in microseconds, where the file says.
    pub times: Option<Vec<i64>>,
    /// Names of the series.
    pub names: Vec<String>,
    /// `[series][rows]`; NaN where a cell is empty.
    pub values: Vec<Vec<f64>>,
    /// Columns that were left out, in words.
    pub notes: Vec<String>,
}

/// Reads a `.csv` or `.tsv` file of series; the first row is the header. See [`SeriesSpec`] for which columns.
///
/// # Errors
/// Anything that is wrong with the file, with file, line and column; settings that no file can fit.
pub fn read_series(path: &Path, spec: &SeriesSpec) -> Result<SeriesTable, DataError> {
    let bytes = std::fs::read(path).map_err(|reason| DataError::Io { path: path.to_owned(), reason })?;
    parse_series(path, &bytes, spec)
}

/// [`read_series`] for bytes that are already in memory; `path` names them and gives the extension.
///
/// # Errors
/// As [`read_series`].
pub fn parse_series(path: &Path, bytes: &[u8], spec: &SeriesSpec) -> Result<SeriesTable, DataError> {
    spec.check()?;
    let delimiter = match extension(path).as_str() {
        "csv" => b',',
        "tsv" => b'\t',
        _ => return Err(DataError::UnknownSeriesExtension { path: path.to_owned() }),
    };
    let sheet = Sheet::read(path, decode(path, bytes)?, delimiter, spec)?;
    regular::table(path, sheet.rows(path, spec)?, spec)
}

/// All that was read of a column.
struct Column {
    name: String,
    /// NaN where there is no number.
    values: Vec<f64>,
    numbers: usize,
    /// Row and text of the first cell that is neither empty nor a number.
    odd: Option<(usize, String)>,
    odds: usize,
    /// Where dates were looked for.
    dates: Option<Dates>,
}

#[derive(Default)]
struct Dates {
    times: Vec<i64>,
    /// Row and text of the first cell that is no date.
    odd: Option<(usize, String)>,
    odds: usize,
}

struct Sheet {
    lines: Vec<usize>,
    header: usize,
    columns: Vec<Column>,
}

impl Sheet {
    fn read(path: &Path, text: &str, delimiter: u8, spec: &SeriesSpec) -> Result<Self, DataError> {
        let mut places = Lines::new(text.as_bytes());
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .from_reader(text.as_bytes());
        let mut record = csv::StringRecord::new();
        let mut sheet = Self { lines: Vec::new(), header: 0, columns: Vec::new() };
        let refused = |error| DataError::Io { path: path.to_owned(), reason: std::io::Error::other(error) };
        while reader.read_record(&mut record).map_err(refused)? {
            let start = record.position().map_or(0, |p| p.byte() as usize);
            let breaks = text[start..].bytes().take_while(|b| matches!(b, b'\n' | b'\r')).count();
            let line = places.line_of(start + breaks);
            if sheet.header == 0 {
                sheet.header = line;
                let names = record.iter().map(|name| name.trim().to_owned());
                sheet.columns = names.enumerate().map(|(i, name)| Column::new(name, i, spec)).collect();
                continue;
            }
            if record.len() != sheet.columns.len() {
                return Err(DataError::Ragged {
                    path: path.to_owned(),
                    line,
                    found: record.len(),
                    expected: sheet.columns.len(),
                    columns: listed(sheet.columns.iter().map(|c| &c.name), 12),
                });
            }
            for (column, cell) in sheet.columns.iter_mut().zip(&record) {
                column.push(sheet.lines.len(), cell.trim());
            }
            sheet.lines.push(line);
        }
        match sheet.lines.is_empty() {
            true => Err(DataError::NoRows { path: path.to_owned() }),
            false => Ok(sheet),
        }
    }

    /// The columns that the specification asks for.
    fn rows(mut self, path: &Path, spec: &SeriesSpec) -> Result<Rows, DataError> {
        let date = match &spec.date_column {
            Some(name) => Some(self.find(path, name, "date-column")?),
            // A column of numbers may be read as neither: `2014-07` is no number, and 7 no date.
            None => self.columns[0].holds_dates().then_some(0),
        };
        let times = match date.and_then(|column| self.columns[column].dates.take()) {
            Some(Dates { odd: Some((row, found)), .. }) => {
                return Err(DataError::NotADate {
                    path: path.to_owned(),
                    line: self.lines[row],
                    column: self.columns[date.unwrap_or(0)].name.clone(),
                    found: listed([found], 1),
                    expected: dates::FORMATS,
                });
            }
            Some(dates) => Some(dates.times),
            None => None,
        };
        let mut notes = Vec::new();
        let targets = match spec.targets.is_empty() {
            true => self.numeric(date, &mut notes),
            false => spec
                .targets
                .iter()
                .map(|name| self.find(path, name, "target-columns"))
                .collect::<Result<_, _>>()?,
        };
        if targets.is_empty() {
            let columns = listed(self.columns.iter().map(|c| &c.name), 12);
            return Err(DataError::NoSeries { path: path.to_owned(), line: self.header, columns });
        }
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for target in targets {
            let name = self.columns[target].name.clone();
            self.find(path, &name, "target-columns")?;
            let column = &mut self.columns[target];
            if let Some((row, found)) = &column.odd {
                return Err(DataError::NotANumberInColumn {
                    path: path.to_owned(),
                    line: self.lines[*row],
                    column: name,
                    found: listed([found], 1),
                });
            }
            if column.numbers == 0 {
                return Err(DataError::NoValues { path: path.to_owned(), column: name });
            }
            names.push(name);
            values.push(std::mem::take(&mut column.values));
        }
        if let Some(name) = twice(&names) {
            return Err(DataError::DuplicateTarget { column: name.to_owned() });
        }
        Ok(Rows { lines: self.lines, times, names, values, notes })
    }

    /// The only column of this name.
    fn find(&self, path: &Path, name: &str, option: &'static str) -> Result<usize, DataError> {
        let mut found = (0..self.columns.len()).filter(|&column| self.columns[column].name == name);
        let (first, more) = (found.next(), found.count());
        match first {
            Some(column) if more == 0 => Ok(column),
            Some(_) => Err(DataError::DuplicateColumn {
                path: path.to_owned(),
                line: self.header,
                column: name.to_owned(),
                times: more + 1,
            }),
            None => Err(DataError::MissingColumn {
                path: path.to_owned(),
                line: self.header,
                column: name.to_owned(),
                available: listed(self.columns.iter().map(|c| &c.name), 12),
                option,
            }),
        }
    }

    /// The columns most of whose cells are numbers; notes name the others. A column without a name is an index.
    fn numeric(&self, date: Option<usize>, notes: &mut Vec<String>) -> Vec<usize> {
        let mut targets = Vec::new();
        for (i, column) in self.columns.iter().enumerate().filter(|(i, _)| Some(*i) != date) {
            if column.numbers > column.odds && !column.name.is_empty() {
                targets.push(i);
            } else {
                let why = if column.name.is_empty() { "has no name" } else { "holds no numbers" };
                notes.push(format!(
                    "column {} (`{}`) {why} and is left out",
                    i + 1,
                    listed([&column.name], 1)
                ));
            }
        }
        targets
    }
}

impl Column {
    fn new(name: String, place: usize, spec: &SeriesSpec) -> Self {
        let may_be_dates = spec.date_column.as_ref().map_or(place == 0, |wanted| *wanted == name);
        let dates = may_be_dates.then(Dates::default);
        Self { name, values: Vec::new(), numbers: 0, odd: None, odds: 0, dates }
    }

    fn push(&mut self, row: usize, cell: &str) {
        let number = cell.parse::<f64>().ok().filter(|number| number.abs() <= LARGEST);
        self.values.push(number.unwrap_or(f64::NAN));
        if number.is_some() {
            self.numbers += 1;
        } else if !MISSING.iter().any(|word| cell.eq_ignore_ascii_case(word)) {
            self.odds += 1;
            self.odd.get_or_insert_with(|| (row, cell.to_owned()));
        }
        if let Some(dates) = &mut self.dates {
            let time = dates::parse(cell);
            dates.times.push(time.unwrap_or_default());
            if time.is_none() {
                dates.odds += 1;
                dates.odd.get_or_insert_with(|| (row, cell.to_owned()));
            }
        }
    }

    fn holds_dates(&self) -> bool {
        self.dates.as_ref().is_some_and(|dates| 2 * dates.odds < dates.times.len())
    }
}

/// A name that appears twice.
fn twice(names: &[String]) -> Option<&str> {
    let mut seen = BTreeSet::new();
    names.iter().find(|name| !seen.insert(*name)).map(String::as_str)
}
