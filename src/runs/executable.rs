//! Whether an operation type can be executed as written. Pure.
//!
//! Preparing a run and the status of the type both use this check.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        OperationType, Reason,
        execution::{FENCE_CONTAINER, FENCE_TOKEN_VOLUME},
        operation_type::Executor,
        result::truncate,
    },
    cluster::trim::{OF_TYPES, left_out},
    kernel::refusal::Refusal,
};
use jsonschema::Validator;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde_json::Value;
use std::collections::BTreeSet;

/// Checks everything that can be known about a type before a run is requested.
pub fn check(operation_type: &OperationType) -> Result<(), Refusal> {
    check_size(operation_type)?;
    validator(operation_type)?;
    check_executor(operation_type)
}

fn invalid(message: String) -> Refusal {
    Refusal::new(Reason::InvalidType, message)
}

/// Refuses a type of which something was left out on read.
pub fn check_size(operation_type: &OperationType) -> Result<(), Refusal> {
    let Some(left_out) = left_out(operation_type) else { return Ok(()) };
    Err(invalid(format!(
        "an administrator must make {left_out} of operation type {} smaller: the operator reads at most {} KiB of it",
        name(operation_type),
        OF_TYPES.field / 1024
    )))
}

/// Compiles the schema of the inputs. Returns `None` if the type has no schema.
pub fn validator(operation_type: &OperationType) -> Result<Option<Validator>, Refusal> {
    let Some(schema) = &operation_type.spec.inputs_schema else { return Ok(None) };
    jsonschema::validator_for(&Value::Object(schema.clone())).map(Some).map_err(|error| {
        invalid(format!(
            "an administrator must correct inputsSchema of operation type {}: it is not a JSON schema ({})",
            name(operation_type),
            truncate(&error.to_string(), 300)
        ))
    })
}

/// Refuses a type whose executor cannot be turned into a Job.
pub fn check_executor(operation_type: &OperationType) -> Result<(), Refusal> {
    let refuse = |what: &str| {
        Err(invalid(format!("an administrator must correct operation type {}: {what}", name(operation_type))))
    };
    let Executor { worker, job_template } = &operation_type.spec.executor;
    let template = match (worker, job_template) {
        (Some(_), None) => return Ok(()),
        (None, Some(template)) => template,
        _ => return refuse("it must have exactly one of executor.worker and executor.jobTemplate"),
    };
    let pod = template.spec.as_ref().and_then(|job| job.template.spec.as_ref());
    match pod {
        Some(pod) if !pod.containers.is_empty() => match reserved(pod) {
            Some(taken) => refuse(&format!("its jobTemplate uses {taken} twice, or as a name of its own: rename it")),
            None => Ok(()),
        },
        _ => refuse("its jobTemplate has no containers"),
    }
}

/// A container name that would not be unique once the fence is added, or a volume with the name of
/// the fence's volume.
fn reserved(pod: &PodSpec) -> Option<&str> {
    let mut names = BTreeSet::from([FENCE_CONTAINER]);
    let containers: Vec<&Container> = pod.init_containers.iter().flatten().chain(&pod.containers).collect();
    let twice = containers.into_iter().map(|container| container.name.as_str()).find(|name| !names.insert(name));
    let volumes = pod.volumes.iter().flatten().map(|volume| volume.name.as_str());
    twice.or_else(|| volumes.into_iter().find(|name| *name == FENCE_TOKEN_VOLUME))
}

fn name(operation_type: &OperationType) -> &str {
    operation_type.metadata.name.as_deref().unwrap_or_default()
}
