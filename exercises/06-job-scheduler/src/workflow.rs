// Stub 137f8453e3930feb: this file is yours to write. `cargo xtask reset job-scheduler` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! Workflows: which steps are to begin, what is to be undone, and how that survives whatever dies.

use crate::error::Error;
use crate::flow::{NewWorkflow, Workflow};
use crate::run::{Reply, Run};
use crate::store::{Settled, Store};
use crate::time::Time;

/// How a workflow goes on.
///
/// Given how it stands, this says how it stands next, and which runs are to be published for that. It looks at
/// nothing else and changes nothing else: called again with what it returned it returns the same, without
/// runs.
///
/// - While it runs, each step begins as soon as all those it waits for have succeeded: it is
///   [`Running`](crate::StepState::Running), and there is a run for it. The run's job is `WORKFLOW/STEP`, its time
///   that at which the workflow began; its payload is `{"payload": …, "results": {…}}`, with the result of
///   each step it waited for under its name.
/// - When all steps have succeeded, so has the workflow.
/// - When a step has failed, no more steps begin: those that wait are
///   [`Skipped`](crate::StepState::Skipped). Those that run are waited for, and count as they end. Then the
///   workflow is [`Compensating`](crate::FlowState::Compensating): the steps that have succeeded are undone one
///   after the other, the last one first, each by a run with the job `WORKFLOW/STEP/undo` and the payload
///   `{"payload": …, "result": …}`, the payload of the compensation and what had come of the step. A step
///   without a compensation is passed over and stays succeeded. When all is undone the workflow has
///   [`Failed`](crate::FlowState::Failed).
/// - When something cannot be undone the workflow is [`Stuck`](crate::FlowState::Stuck), and goes no further.
///
/// All runs have `attempt` 1 and `token` 0: whoever publishes them says the rest.
pub fn advance(workflow: &Workflow) -> (Workflow, Vec<Run>) {
    todo!("stage 8: begin what is ready; or undo the last that has succeeded; or come to an end")
}

/// Notes what has become of a run of a workflow: a step has succeeded or failed, or was undone, or could not
/// be. What is noted already stays as it is, and so does everything if the run is none of this workflow's, or
/// is not under way.
pub fn note(
    workflow: &Workflow,
    job: &str,
    outcome: &Result<serde_json::Value, String>,
) -> Workflow {
    todo!("stage 8: find the step by the job's name, and set its state, its result or its error")
}

impl Store {
    /// Begins a workflow: it is known from then on, and the runs of its first steps are open. All of it
    /// happens, or nothing.
    ///
    /// # Errors
    /// [`Error::BadJob`] if it [cannot be](NewWorkflow::check), or names a service that was never
    /// [added](Store::add_service), with the place. [`Error::Duplicate`] if one of this name is known.
    pub async fn begin(&self, new: &NewWorkflow, now: Time) -> Result<Workflow, Error> {
        todo!("stage 8: check, look at the services, advance, and one script that writes all of it")
    }

    /// A workflow as it stands; nothing if there is none of this name, or it ended more than a day ago.
    ///
    /// # Errors
    /// Those of the connection, and [`Error::BadRecord`].
    pub async fn workflow(&self, name: &str) -> Result<Option<Workflow>, Error> {
        todo!("stage 8: read what `begin` has written")
    }

    /// Deals with a reply to any run, of a job or of a workflow: [settles](Store::settle) the run, and if it
    /// has ended, and is a workflow's, lets that go on. What follows from it (how the workflow stands, and its
    /// next runs) is one atomic step, which of two nodes that do it at once one does. Dealing with the same
    /// reply again makes up for what a node that died in the middle has left, and changes nothing otherwise.
    ///
    /// # Errors
    /// Those of the connection, and [`Error::BadRecord`].
    pub async fn answer(&self, reply: &Reply, now: Time, again: Time) -> Result<Settled, Error> {
        todo!(
            "stage 3: settle (stage 8: and if a workflow's run has ended: note, advance, write, unless another was faster)"
        )
    }
}
