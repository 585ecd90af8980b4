//! Layer 6: the plan's place for cron jobs and backups, and how much of the log is kept.

use std::time::Duration;

use magrathea_core::names::Layer;
use magrathea_core::plan::{LogBounds, LogsSpec, Resource, Spec, SupportSpec};
use magrathea_core::units::ByteSize;

use crate::{InstanceInput, LayerError, resource};

/// Less is not worth keeping, and too little to be cut into parts that go one by one.
const LEAST_SIZE: ByteSize = ByteSize::mib(1);
const LEAST_KEEP: Duration = Duration::from_secs(3600);

pub fn plan_support(input: &InstanceInput<'_>) -> Result<Vec<Resource>, LayerError> {
    let support = &input.sections.support;
    let logs = LogsSpec { slug: input.slug(), bounds: log_bounds(input)? };
    let mut resources = vec![resource(Layer::Support, "logs", Spec::Logs(logs))];
    if !support.cron.is_empty() || support.backup.is_some() {
        let spec = SupportSpec { cron: support.cron.clone(), backup: support.backup.clone() };
        resources.push(resource(Layer::Support, "jobs", Spec::Support(spec)));
    }
    Ok(resources)
}

/// The cluster's bounds, narrowed by the manifest: the disk is the operator's, the lines are the team's.
fn log_bounds(input: &InstanceInput<'_>) -> Result<LogBounds, LayerError> {
    let (most, asked) = (&input.cluster.logs, &input.sections.support.logs);
    let bounds = LogBounds { size: asked.size.unwrap_or(most.size), keep: asked.keep.unwrap_or(most.keep) };
    let wide = |key: &str, wanted: String, most: String| {
        LayerError::new(key, format!("{wanted} is more than the cluster keeps: {most}"))
            .hint("ask for less, or have an operator raise `logs` of the cluster in clusters.yml")
    };
    if bounds.size > most.size {
        return Err(wide("support.logs.size", bounds.size.to_string(), most.size.to_string()));
    }
    if bounds.keep > most.keep {
        return Err(wide("support.logs.keep", bounds.keep.to_string(), most.keep.to_string()));
    }
    if asked.size.is_some_and(|size| size < LEAST_SIZE) {
        return Err(LayerError::new("support.logs.size", format!("must be at least {LEAST_SIZE}")));
    }
    if asked.keep.is_some_and(|keep| keep.0 < LEAST_KEEP) {
        return Err(LayerError::new("support.logs.keep", "must be at least 1h"));
    }
    Ok(bounds)
}
