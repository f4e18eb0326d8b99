//! Workflows: which steps are to begin, what is to be undone, and how that survives whatever dies.

use crate::error::Error;
use crate::flow::{NewWorkflow, Workflow};
use crate::run::{Reply, Run};
use crate::store::{Settled, Store};
use crate::time::Time;

// solution only
use std::sync::LazyLock;

use redis::Script;
use serde_json::{Map, Value, json};

use crate::flow::{FlowState, StepNow, StepState};
use crate::store::json as read;
// end solution only

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
    // stub stage 8: begin what is ready; or undo the last that has succeeded; or come to an end
    let mut next = workflow.clone();
    let mut runs = Vec::new();
    if next.state == FlowState::Running {
        begin_steps(&mut next, &mut runs);
    }
    if next.state == FlowState::Compensating {
        undo(&mut next, &mut runs);
    }
    (next, runs)
    // end stub
}

/// Notes what has become of a run of a workflow: a step has succeeded or failed, or was undone, or could not
/// be. What is noted already stays as it is, and so does everything if the run is none of this workflow's, or
/// is not under way.
pub fn note(
    workflow: &Workflow,
    job: &str,
    outcome: &Result<serde_json::Value, String>,
) -> Workflow {
    // stub stage 8: find the step by the job's name, and set its state, its result or its error
    let mut next = workflow.clone();
    let Some(rest) = job
        .strip_prefix(&workflow.name)
        .and_then(|rest| rest.strip_prefix('/'))
    else {
        return next;
    };
    let (name, is_undo) = match rest.strip_suffix("/undo") {
        Some(name) => (name, true),
        None => (rest, false),
    };
    let under_way = match is_undo {
        true => StepState::Undoing,
        false => StepState::Running,
    };
    let mut steps = next.steps.iter_mut();
    let Some(step) = steps.find(|step| step.step.name == name && step.state == under_way) else {
        return next;
    };
    match (is_undo, outcome) {
        (false, Ok(result)) => {
            step.state = StepState::Succeeded;
            step.result = result.clone();
            next.order.push(name.to_owned());
        }
        (false, Err(error)) => {
            step.state = StepState::Failed;
            step.error = Some(error.clone());
        }
        (true, Ok(_)) => step.state = StepState::Undone,
        (true, Err(error)) => {
            step.state = StepState::Stuck;
            step.error = Some(error.clone());
        }
    }
    next
    // end stub
}

impl Store {
    /// Begins a workflow: it is known from then on, and the runs of its first steps are open. All of it
    /// happens, or nothing.
    ///
    /// # Errors
    /// [`Error::BadJob`] if it [cannot be](NewWorkflow::check), or names a service that was never
    /// [added](Store::add_service), with the place. [`Error::Duplicate`] if one of this name is known.
    pub async fn begin(&self, new: &NewWorkflow, now: Time) -> Result<Workflow, Error> {
        // stub stage 8: check, look at the services, advance, and one script that writes all of it
        new.check()?;
        self.check_services(new).await?;
        let steps = new.steps.iter().map(|step| StepNow {
            step: step.clone(),
            state: StepState::Waiting,
            result: Value::Null,
            error: None,
        });
        let workflow = Workflow {
            name: new.name.clone(),
            state: FlowState::Running,
            began: now,
            steps: steps.collect(),
            order: Vec::new(),
        };
        let (workflow, runs) = advance(&workflow);
        match self.write(0, &workflow, &runs).await? {
            true => Ok(workflow),
            false => Err(Error::Duplicate("workflow", new.name.clone())),
        }
        // end stub
    }

    /// A workflow as it stands; nothing if there is none of this name, or it ended more than a day ago.
    ///
    /// # Errors
    /// Those of the connection, and [`Error::BadRecord`].
    pub async fn workflow(&self, name: &str) -> Result<Option<Workflow>, Error> {
        // stub stage 8: read what `begin` has written
        Ok(self.load(name).await?.map(|(_, workflow)| workflow))
        // end stub
    }

    /// Deals with a reply to any run, of a job or of a workflow: [settles](Store::settle) the run, and if it
    /// has ended, and is a workflow's, lets that go on. What follows from it (how the workflow stands, and its
    /// next runs) is one atomic step, which of two nodes that do it at once one does. Dealing with the same
    /// reply again makes up for what a node that died in the middle has left, and changes nothing otherwise.
    ///
    /// # Errors
    /// Those of the connection, and [`Error::BadRecord`].
    pub async fn answer(&self, reply: &Reply, now: Time, again: Time) -> Result<Settled, Error> {
        // stub stage 3: settle (stage 8: and if a workflow's run has ended: note, advance, write, unless another was faster)
        let settled = self.settle(reply, now, again).await?;
        let (Settled::Ended(outcome), Some((name, _))) = (&settled, reply.job.split_once('/'))
        else {
            return Ok(settled);
        };
        while let Some((version, workflow)) = self.load(name).await? {
            // A workflow of this name from before: its runs are none of this one's.
            if workflow.began != reply.scheduled_for {
                break;
            }
            let (next, runs) = advance(&note(&workflow, &reply.job, outcome));
            if next == workflow || self.write(version, &next, &runs).await? {
                break;
            }
        }
        Ok(settled)
        // end stub
    }
}

// solution only
fn begin_steps(next: &mut Workflow, runs: &mut Vec<Run>) {
    let is = |state: StepState| move |step: &StepNow| step.state == state;
    if next.steps.iter().any(is(StepState::Failed)) {
        for step in next
            .steps
            .iter_mut()
            .filter(|step| step.state == StepState::Waiting)
        {
            step.state = StepState::Skipped;
        }
        if !next.steps.iter().any(is(StepState::Running)) {
            next.state = FlowState::Compensating;
        }
        return;
    }
    if next.steps.iter().all(is(StepState::Succeeded)) {
        next.state = FlowState::Succeeded;
        return;
    }
    let done = next
        .steps
        .iter()
        .filter(|step| step.state == StepState::Succeeded);
    let results: Map<String, Value> = done
        .map(|step| (step.step.name.clone(), step.result.clone()))
        .collect();
    for step in &mut next.steps {
        let after = &step.step.after;
        if step.state == StepState::Waiting && after.iter().all(|other| results.contains_key(other))
        {
            step.state = StepState::Running;
            let needed: Map<String, Value> = after
                .iter()
                .map(|other| (other.clone(), results[other].clone()))
                .collect();
            runs.push(Run {
                job: format!("{}/{}", next.name, step.step.name),
                scheduled_for: next.began,
                token: 0,
                attempt: 1,
                payload: json!({"payload": step.step.payload, "results": needed}),
                service: step.step.service.clone(),
            });
        }
    }
}

fn undo(next: &mut Workflow, runs: &mut Vec<Run>) {
    if next.steps.iter().any(|step| step.state == StepState::Stuck) {
        next.state = FlowState::Stuck;
        return;
    }
    if next
        .steps
        .iter()
        .any(|step| step.state == StepState::Undoing)
    {
        return;
    }
    for name in next.order.iter().rev() {
        let mut steps = next.steps.iter_mut();
        let Some(step) = steps.find(|step| step.step.name == *name) else {
            continue;
        };
        let (StepState::Succeeded, Some(undo)) = (step.state, &step.step.compensate) else {
            continue;
        };
        runs.push(Run {
            job: format!("{}/{name}/undo", next.name),
            scheduled_for: next.began,
            token: 0,
            attempt: 1,
            payload: json!({"payload": undo.payload, "result": step.result}),
            service: undo.service.clone(),
        });
        step.state = StepState::Undoing;
        return;
    }
    next.state = FlowState::Failed;
}

impl Store {
    async fn check_services(&self, new: &NewWorkflow) -> Result<(), Error> {
        let mut wanted = Vec::new();
        for (n, step) in new.steps.iter().enumerate() {
            wanted.push((format!("/steps/{n}/service"), &step.service));
            if let Some(undo) = &step.compensate {
                wanted.push((format!("/steps/{n}/compensate/service"), &undo.service));
            }
        }
        let names: Vec<_> = wanted.iter().map(|(_, service)| service).collect();
        let mut connection = self.link.connection().await?;
        let answer = redis::cmd("SMISMEMBER")
            .arg(self.names.services())
            .arg(names)
            .query_async(&mut connection)
            .await;
        let known: Vec<bool> = self.link.answer(answer).await?;
        for ((place, service), known) in wanted.into_iter().zip(known) {
            if !known {
                let why = format!("there is no service `{service}`: it was never started");
                return Err(Error::bad(place, why));
            }
        }
        Ok(())
    }

    /// A workflow and its version.
    async fn load(&self, name: &str) -> Result<Option<(u64, Workflow)>, Error> {
        let key = self.names.workflow(name);
        let mut connection = self.link.connection().await?;
        let answer = redis::cmd("HMGET")
            .arg(&key)
            .arg(&["version", "state"])
            .query_async(&mut connection)
            .await;
        let (version, text): (Option<u64>, Option<String>) = self.link.answer(answer).await?;
        match (version, text) {
            (Some(version), Some(text)) => Ok(Some((version, read(&key, &text)?))),
            _ => Ok(None),
        }
    }

    /// Writes how a workflow stands and opens its runs, if it still has this version (0: if there is none).
    async fn write(&self, version: u64, workflow: &Workflow, runs: &[Run]) -> Result<bool, Error> {
        let mut call = WRITE.key(self.names.workflow(&workflow.name));
        call.key(self.names.open());
        call.arg(version).arg(json!(workflow).to_string());
        let has_ended = matches!(
            workflow.state,
            FlowState::Succeeded | FlowState::Failed | FlowState::Stuck
        );
        call.arg(u8::from(has_ended))
            .arg(DAY)
            .arg(self.names.run(""));
        for run in runs {
            // What undoes a step has as many attempts as the step.
            let step = run.job.split('/').nth(1).unwrap_or_default();
            let mut steps = workflow.steps.iter();
            let step = steps.find(|other| other.step.name == step);
            let attempts = step.map_or(1, |step| step.step.attempts);
            call.arg(run.id()).arg(&run.job);
            call.arg(run.scheduled_for.timestamp_millis());
            call.arg(&run.service)
                .arg(run.payload.to_string())
                .arg(attempts);
        }
        self.run(&call).await
    }
}

/// How long a workflow that has ended is known, in milliseconds.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// KEYS: workflow, open. ARGV: version, how it stands, whether it has ended, how long it is known then, what
/// the keys of runs begin with; then for each run its id, job, time, service, payload and attempts.
static WRITE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
        redis.call('HSET', KEYS[1], 'version', ARGV[1] + 1, 'state', ARGV[2])
        if ARGV[3] == '1' then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
        for i = 6, #ARGV, 6 do
            redis.call('HSET', ARGV[5] .. ARGV[i], 'job', ARGV[i + 1], 'scheduled_for', ARGV[i + 2],
                'service', ARGV[i + 3], 'payload', ARGV[i + 4], 'attempt', 1, 'attempts', ARGV[i + 5])
            redis.call('ZADD', KEYS[2], 0, ARGV[i])
        end
        return 1",
    )
});
// end solution only
