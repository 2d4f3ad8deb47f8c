//! The runs of all tasks, made by a few threads that each wait for a child process; what is told in between.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant, SystemTime};

use rgft_report::compare::Comparison;
use rgft_train::TrainError;

use super::Report;
use super::grid::{Cell, Task};
use super::records::{Record, Records};
use super::run::{self, Claim, Conditions};
use super::schedule::{self, Known};
use crate::printer::Printer;

/// Between two looks at whether another process has come further.
const WAIT: Duration = Duration::from_millis(300);

/// Between two times that the report is written while runs go on.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// A task, its records, and what is known of them.
struct Entry {
    task: Task,
    records: Records,
    known: Known,
    /// Of the file that `known` was read from.
    stamp: Option<(u64, SystemTime)>,
    /// Seconds that runs of this process took, and what they should cost by their budgets.
    pace: (f64, f64),
}

/// All runs.
pub(super) struct Work {
    out: PathBuf,
    how: Conditions,
    pub(super) report: Report,
    entries: Mutex<Vec<Entry>>,
    /// The first run that failed.
    failure: Mutex<Option<(Option<i32>, String)>>,
}

/// What a thread tells while it works.
enum Said {
    Note(String),
    Warning(String),
}

/// What there is to be done.
enum Next {
    Run(usize, Box<Cell>, Claim),
    /// Others are at it.
    Wait,
    Nothing,
}

impl Work {
    /// The tasks with what is on record.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub(super) fn new(
        tasks: Vec<(Task, Records)>,
        out: &Path,
        how: Conditions,
        report: Report,
    ) -> Result<Self, TrainError> {
        let entry =
            |(task, records)| Entry { task, records, known: Known::default(), stamp: None, pace: (0.0, 0.0) };
        let mut entries: Vec<Entry> = tasks.into_iter().map(entry).collect();
        entries.iter_mut().try_for_each(Entry::read)?;
        Ok(Self {
            out: out.to_path_buf(),
            how,
            report,
            entries: Mutex::new(entries),
            failure: Mutex::new(None),
        })
    }

    /// Takes the runs of these tasks by `methods` off the records, and what is left of them in their folders.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub(super) fn forget(&self, methods: &[String]) -> Result<(), TrainError> {
        if methods.is_empty() {
            return Ok(());
        }
        for entry in self.lock().iter_mut() {
            let of_method = |cell: &&Cell| methods.contains(&entry.task.arms[cell.arm].method);
            let cells: Vec<&Cell> = entry.task.cells.iter().filter(of_method).collect();
            entry.records.forget(&cells.iter().map(|cell| &*cell.identity).collect())?;
            for cell in cells {
                let _ = std::fs::remove_file(self.folder(&entry.task, cell).join("run.json"));
            }
            entry.read()?;
        }
        Ok(())
    }

    /// Makes every run that is not on record.
    ///
    /// # Errors
    /// Files that cannot be read or written. A run that fails is no error here.
    pub(super) fn all(&self, printer: &mut Printer) -> Result<(), TrainError> {
        let (say, hear) = mpsc::channel();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.how.jobs)
                .map(|_| {
                    let say = say.clone();
                    scope.spawn(move || self.worker(&say))
                })
                .collect();
            drop(say);
            let mut written = Instant::now();
            for said in hear {
                match said {
                    Said::Note(text) => printer.note(&text),
                    Said::Warning(text) => printer.warning(&text),
                }
                if written.elapsed() > REPORT_INTERVAL {
                    self.report.write(&self.comparison())?;
                    written = Instant::now();
                }
            }
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    fn worker(&self, say: &mpsc::Sender<Said>) -> Result<(), TrainError> {
        loop {
            match self.next()? {
                Next::Run(i, cell, claim) => self.make(i, &cell, &claim, say)?,
                Next::Wait => std::thread::sleep(WAIT),
                Next::Nothing => return Ok(()),
            }
        }
    }

    /// The first run that can be made and that nobody else is at.
    fn next(&self) -> Result<Next, TrainError> {
        let mut entries = self.lock();
        let mut others = false;
        for (i, entry) in entries.iter_mut().enumerate() {
            entry.read()?;
            for cell in schedule::ready(&entry.task, &entry.known) {
                match run::claim(&self.folder(&entry.task, cell))? {
                    // Its last holder may have put it on record between the look and the claim.
                    Some(claim) if !entry.records.read()?.contains_key(&cell.identity) => {
                        return Ok(Next::Run(i, Box::new(cell.clone()), claim));
                    }
                    _ => others = true,
                }
            }
        }
        Ok(if others { Next::Wait } else { Next::Nothing })
    }

    /// Makes a run and puts it on record.
    fn make(&self, i: usize, cell: &Cell, claim: &Claim, say: &mpsc::Sender<Said>) -> Result<(), TrainError> {
        let (folder, name) = {
            let entries = self.lock();
            let task = &entries[i].task;
            (self.folder(task, cell), name(task, cell))
        };
        let begun = Instant::now();
        let result = run::run(cell, &folder, claim, &self.how);
        let mut entries = self.lock();
        let entry = &mut entries[i];
        let named = |record: Record| Record {
            method: entry.task.arms[cell.arm].method.clone(),
            budget: cell.budget,
            seed: cell.seed,
            learning_rate: entry.task.arms[cell.arm].choices[cell.choice].learning_rate,
            ..record
        };
        let said = match result {
            Ok(record) => {
                let record = named(record);
                entry.records.append(&entry.task.shared, &cell.settings, record.clone())?;
                if !self.how.keep {
                    run::tidy(&folder);
                }
                let validation = schedule::validation(&record);
                let words = format!(
                    "{name}: validation {} {}, {:.3} of full, {:.0} s",
                    record.metric,
                    validation.map_or("n/a".into(), |value| format!("{value:.4}")),
                    record.flops_ratio,
                    begun.elapsed().as_secs_f64()
                );
                entry.known.records.insert(cell.identity.clone(), record);
                entry.pace.0 += begun.elapsed().as_secs_f64();
                entry.pace.1 += schedule::cost(cell);
                Said::Note(format!("{words}{}", left(&entries, self.how.jobs)))
            }
            Err(failure) => {
                entry.known.failed.insert(cell.identity.clone(), failure.reason.clone());
                if failure.is_certain() {
                    let record =
                        Record { failed: Some(failure.reason.clone()), ..named(run::blank(&self.how)) };
                    entry.records.append(&entry.task.shared, &cell.settings, record)?;
                }
                let words = format!("{name}: {}", failure.reason);
                self.lock_failure().get_or_insert((failure.status, words.clone()));
                Said::Warning(words)
            }
        };
        // If nobody listens any more, there is nobody to tell.
        let _ = say.send(said);
        Ok(())
    }

    /// The comparison as far as runs are there.
    pub(super) fn comparison(&self) -> Comparison {
        let entries = self.lock();
        let tasks: Vec<_> = entries.iter().map(|entry| (&entry.task, &entry.known)).collect();
        self.report.comparison(&tasks)
    }

    /// Where no run at all gave a result: why the first one failed.
    pub(super) fn only_failure(&self) -> Option<TrainError> {
        let entries = self.lock();
        let any = entries
            .iter()
            .any(|entry| entry.task.cells.iter().any(|cell| entry.known.result(cell).is_some()));
        if any {
            return None;
        }
        let cells = entries.iter().flat_map(|entry| entry.task.cells.iter().map(move |cell| (entry, cell)));
        let recorded = || cells.filter_map(|(entry, cell)| entry.known.failure(cell)).next();
        let first = self.lock_failure().clone();
        let (status, reason) = first.or_else(|| Some((Some(1), recorded()?.to_owned())))?;
        Some(match status {
            Some(2) => {
                TrainError::Mismatch { problem: reason, hint: "no run could be started: correct the recipe" }
            }
            _ => TrainError::Write { path: self.out.clone(), source: std::io::Error::other(reason) },
        })
    }

    fn folder(&self, task: &Task, cell: &Cell) -> PathBuf {
        self.out.join(super::place::file_name(&task.name)).join(&cell.folder)
    }

    // A thread that panicked ends the command by itself.
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn lock_failure(&self) -> MutexGuard<'_, Option<(Option<i32>, String)>> {
        self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Entry {
    /// Takes over what is on record by now.
    fn read(&mut self) -> Result<(), TrainError> {
        if !self.records.unchanged(&mut self.stamp) {
            self.known.records = self.records.read()?;
        }
        Ok(())
    }
}

fn name(task: &Task, cell: &Cell) -> String {
    let arm = &task.arms[cell.arm];
    let choice = arm.choices[cell.choice];
    let mut name = format!("{} {}", task.name, arm.method);
    if !arm.settings.is_empty() {
        name.push_str(&format!(" {}", arm.settings));
    }
    if arm.method != "full" {
        name.push_str(&format!(" at {}", cell.budget));
    }
    name.push_str(&format!(", rate {:e}", choice.learning_rate));
    if let Some(k) = choice.last_k {
        name.push_str(&format!(", k {k}"));
    }
    format!("{name}, seed {}", cell.seed)
}

/// `; 12 runs left, about 1 h 05 min`, by the pace of the runs so far.
fn left(entries: &[Entry], jobs: usize) -> String {
    let total = entries.iter().fold((0.0, 0.0), |sum, entry| (sum.0 + entry.pace.0, sum.1 + entry.pace.1));
    let (mut runs, mut seconds) = (0, 0.0);
    for entry in entries {
        let (count, cost) = schedule::left(&entry.task, &entry.known);
        let (spent, done) = if entry.pace.1 > 0.0 { entry.pace } else { total };
        runs += count;
        seconds += cost * spent / done.max(f64::MIN_POSITIVE);
    }
    if runs == 0 {
        return String::new();
    }
    let minutes = (seconds / jobs as f64 / 60.0).ceil() as u64;
    let time = if minutes < 60 {
        format!("{minutes} min")
    } else {
        format!("{} h {:02} min", minutes / 60, minutes % 60)
    };
    format!("; {runs} {} left, about {time}", if runs == 1 { "run" } else { "runs" })
}
