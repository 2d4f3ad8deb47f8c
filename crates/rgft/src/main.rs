//! The `rgft` program: arguments in, a command run, an exit status out.

mod args;
mod bench;
mod commands;
mod hub;
mod pool;
mod printer;

use clap::Parser;

use crate::args::{Bench, Cli, Command};
use crate::printer::{Exit, Printer};

fn main() -> Exit {
    // clap itself exits with 2 for bad arguments, and with 0 for --help and --version.
    let cli = Cli::parse();
    let mut printer = Printer::new(cli.json, cli.quiet);
    if let Err(message) = rgft_kernels::instructions::asked() {
        printer.error(&anyhow::Error::msg(message));
        return Exit::BadInput;
    }
    let done = match &cli.command {
        Command::Train(args) => commands::train::run(args, cli.threads, &mut printer),
        Command::Pretrain(args) => commands::pretrain::run(args, cli.threads, &mut printer),
        Command::Plan(args) => commands::plan::run(args, cli.threads, &mut printer),
        Command::Map(args) => commands::map::run(args, cli.threads, &mut printer),
        Command::Eval(args) => commands::predict::eval(args, cli.threads, &mut printer),
        Command::Predict(args) => commands::predict::predict(args, cli.threads, &mut printer),
        Command::Generate(args) => commands::generate::run(args, cli.threads, &mut printer),
        Command::Compare(args) => commands::compare::run(args, cli.threads, &mut printer),
        Command::Patch(action) => commands::patch::run(action, &mut printer),
        Command::Data(action) => commands::data::run(action, cli.quiet, &mut printer),
        Command::Theory(theory) => commands::theory::run(theory, cli.threads, &mut printer),
        Command::Demo(args) => commands::demo::run(args, cli.threads, &mut printer),
        Command::Bench(Bench::Gemm { quick }) => bench::gemm::run(*quick, cli.threads, &mut printer),
        Command::Bench(Bench::Steps(args)) => bench::steps::run(args, cli.threads, &mut printer),
        Command::Bench(Bench::Growth(args)) => bench::growth::run(args, cli.threads, &mut printer),
        Command::Bench(Bench::Runs(args)) => bench::runs::run(args, cli.threads, &mut printer),
        Command::Bench(Bench::Localize(args)) => bench::localize::run(args, cli.threads, &mut printer),
        Command::Bench(Bench::Suite(args)) => commands::compare::run_suite(args, cli.threads, &mut printer),
        Command::Bench(Bench::Results(args)) => commands::compare::results::run(args, &mut printer),
    };
    match done {
        Ok(()) => Exit::Done,
        Err(error) => {
            printer.error(&error);
            Exit::of(&error)
        }
    }
}
