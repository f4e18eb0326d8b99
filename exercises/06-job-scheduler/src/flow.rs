//! Workflows: steps that wait for one another, and what is undone when one fails.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::job::check_name;
use crate::time::{Time, as_text};

/// The most steps of a workflow.
const MOST_STEPS: usize = 100;

/// A workflow as somebody asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewWorkflow {
    /// What it is called; no other has this name, as long as it is known.
    pub name: String,
    /// What is to be done, in any order.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What it is called in its workflow.
    pub name: String,
    /// Who does it.
    pub service: String,
    /// What it is to work on.
    #[serde(default)]
    pub payload: Value,
    /// The steps that have to have succeeded before. Without any it begins at once.
    #[serde(default)]
    pub after: Vec<String>,
    /// How many attempts it has, at least one. Three unless told otherwise.
    #[serde(default = "three")]
    pub attempts: u32,
    /// What undoes it.
    #[serde(default)]
    pub compensate: Option<Compensation>,
}

/// What undoes a step that had succeeded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compensation {
    /// Who does it.
    pub service: String,
    /// What it is to work on.
    #[serde(default)]
    pub payload: Value,
}

impl Step {
    /// A step that begins at once, with three attempts, and that nothing undoes.
    pub fn new(name: impl Into<String>, service: impl Into<String>, payload: Value) -> Step {
        Step {
            name: name.into(),
            service: service.into(),
            payload,
            after: Vec::new(),
            attempts: three(),
            compensate: None,
        }
    }

    /// The same after others.
    #[must_use]
    pub fn after<'a>(mut self, others: impl IntoIterator<Item = &'a str>) -> Step {
        self.after.extend(others.into_iter().map(str::to_owned));
        self
    }

    /// The same with so many attempts.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Step {
        self.attempts = attempts;
        self
    }

    /// The same, undone by this service.
    #[must_use]
    pub fn undone_by(mut self, service: impl Into<String>, payload: Value) -> Step {
        self.compensate = Some(Compensation {
            service: service.into(),
            payload,
        });
        self
    }
}

fn three() -> u32 {
    3
}

impl NewWorkflow {
    /// Whether it can be a workflow at all; which services there are is not looked at.
    ///
    /// # Errors
    /// [`Error::BadJob`] with the place, such as `/steps/2/after/0`: a name that is none or that two steps
    /// have, no steps or more than a hundred, no attempts, a step that waits for one that is not there,
    /// steps that wait for each other in a circle (which are named).
    pub fn check(&self) -> Result<(), Error> {
        check_name("/name", &self.name)?;
        if self.steps.is_empty() || self.steps.len() > MOST_STEPS {
            let why = format!("a workflow has 1 to {MOST_STEPS} steps");
            return Err(Error::bad("/steps", why));
        }
        let mut places = HashMap::new();
        for (n, step) in self.steps.iter().enumerate() {
            check_name(&format!("/steps/{n}/name"), &step.name)?;
            check_name(&format!("/steps/{n}/service"), &step.service)?;
            if let Some(undo) = &step.compensate {
                check_name(&format!("/steps/{n}/compensate/service"), &undo.service)?;
            }
            if step.attempts == 0 {
                let place = format!("/steps/{n}/attempts");
                return Err(Error::bad(place, "a step has at least one attempt"));
            }
            if places.insert(step.name.as_str(), n).is_some() {
                let why = format!("there are two steps `{}`", step.name);
                return Err(Error::bad(format!("/steps/{n}/name"), why));
            }
        }
        for (n, step) in self.steps.iter().enumerate() {
            for (m, other) in step.after.iter().enumerate() {
                if !places.contains_key(other.as_str()) {
                    let why = format!("there is no step `{other}`");
                    return Err(Error::bad(format!("/steps/{n}/after/{m}"), why));
                }
            }
        }
        self.check_circles(&places)
    }

    /// Takes away what waits for nothing that is left, until nothing is: what cannot be taken waits in a
    /// circle, or for one.
    fn check_circles(&self, places: &HashMap<&str, usize>) -> Result<(), Error> {
        let mut left: Vec<usize> = (0..self.steps.len()).collect();
        loop {
            let waits = |&n: &usize| {
                let mut after = self.steps[n].after.iter();
                after.any(|other| left.contains(&places[other.as_str()]))
            };
            let waiting: Vec<usize> = left.iter().copied().filter(waits).collect();
            if waiting.is_empty() {
                return Ok(());
            }
            if waiting.len() == left.len() {
                // From any of them, from one that is left to another, until one comes again.
                let mut path = vec![left[0]];
                loop {
                    let at = path[path.len() - 1];
                    let mut after = self.steps[at].after.iter().map(|o| places[o.as_str()]);
                    let Some(next) = after.find(|other| left.contains(other)) else {
                        return Ok(());
                    };
                    if let Some(begin) = path.iter().position(|&other| other == next) {
                        let circle: Vec<&str> = path[begin..]
                            .iter()
                            .chain([&next])
                            .map(|&n| self.steps[n].name.as_str())
                            .collect();
                        let why = format!("steps wait in a circle: {}", circle.join(" after "));
                        return Err(Error::bad(format!("/steps/{next}/after"), why));
                    }
                    path.push(next);
                }
            }
            left = waiting;
        }
    }
}

/// How a workflow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowState {
    /// Steps are under way.
    Running,
    /// All steps have succeeded.
    Succeeded,
    /// A step has failed, and what had succeeded is being undone.
    Compensating,
    /// A step has failed, and everything that can be undone is undone.
    Failed,
    /// A step has failed, and something could not be undone: somebody has to look.
    Stuck,
}

/// How a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It waits for others.
    Waiting,
    /// It was begun.
    Running,
    /// It has succeeded.
    Succeeded,
    /// Its last attempt has failed.
    Failed,
    /// It is not begun any more: another has failed before.
    Skipped,
    /// It is being undone.
    Undoing,
    /// It is undone.
    Undone,
    /// It could not be undone.
    Stuck,
}

/// A workflow as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: FlowState,
    /// When it began, which is also the time for which all its steps are scheduled.
    #[serde(with = "as_text")]
    pub began: Time,
    /// Its steps, in the order in which they were given.
    pub steps: Vec<StepNow>,
    /// The names of the steps that have succeeded, in the order in which they did.
    pub order: Vec<String>,
}

/// A step as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepNow {
    /// What was asked for.
    #[serde(flatten)]
    pub step: Step,
    /// How it is.
    pub state: StepState,
    /// What came of it.
    #[serde(default)]
    pub result: Value,
    /// Why it failed, or could not be undone.
    #[serde(default)]
    pub error: Option<String>,
}
