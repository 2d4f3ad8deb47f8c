//! Predictability: plan and weights of step k come from other batches than that of step k.

use rgft_core::Event;
use rgft_data::Targets;
use rgft_train::Workload;
use rgft_train::recipe::Recipe;
use rgft_train::schedule_of_batches::BatchSchedule;

use super::common::{Altered, first, recipe, run};

/// Ten batches of eight: small, because a run is made for each of them.
fn load(recipe: &Recipe) -> Workload {
    let mut work = Workload::load(recipe).unwrap();
    work.train = first(work.train, 80);
    work.validation = first(work.validation, 8);
    work
}

/// Maps and plans in order, with the step that they are made for.
fn decisions(recipe: &Recipe, work: &mut Workload) -> Vec<(usize, String)> {
    let told = run(recipe, work).events;
    told.iter()
        .filter_map(|event| match event {
            Event::Plan { step, .. } | Event::Map { step, .. } => Some((*step, format!("{event:?}"))),
            _ => None,
        })
        .collect()
}

#[test]
fn targets_of_a_batch_reach_no_plan_up_to_its_step() {
    for rule in ["share", "mean-one"] {
        // One pass, so that every example has one step; a probe and a plan before each. The first map's batch is no step's.
        let recipe = recipe(&[
            "budget=1",
            "epochs=1",
            "batch-size=8",
            "validate-every=10",
            "first-probe-batches=1",
            "probe-share=0.5",
            "head-first=0.1",
            "head-first-passes=1",
            "probe-examples=4",
            "probe-interval=1",
            "refresh=1",
            &format!("lr-rule={rule}"),
        ]);
        let schedule =
            BatchSchedule::new(&*load(&recipe).train, recipe.epochs, recipe.batch_size, 1, recipe.seed);
        assert_eq!(schedule.len(), 10);
        let original = decisions(&recipe, &mut load(&recipe));
        assert!(original.len() > 10, "{original:?}");
        let (mut seen, mut influential) = (Vec::new(), 0);
        for step in 0..schedule.len() - 1 {
            let mut work = load(&recipe);
            let rows = &schedule.step(step)[0];
            let Targets::Classes(classes) = work.train.pack(rows, None).targets else { panic!("classes") };
            let classes = rows.iter().zip(classes).map(|(&row, class)| (row, (class + 5) % 10)).collect();
            let rows = (0..work.train.len()).collect();
            work.train = Box::new(Altered { set: work.train, rows, classes });
            let perturbed = decisions(&recipe, &mut work);
            let upto = |all: &[(usize, String)]| -> Vec<String> {
                all.iter().filter(|(at, _)| *at <= step).map(|(_, text)| text.clone()).collect()
            };
            if upto(&original) != upto(&perturbed) {
                seen.push(step);
            }
            influential += usize::from(original != perturbed);
        }
        assert!(seen.is_empty(), "{rule}: plans for steps up to {seen:?} saw the batch of that step");
        // Those before the last probe do change what comes after them.
        assert!(influential >= 2, "{rule}: {influential} batches change a later plan");
    }
}
