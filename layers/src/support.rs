//! Layer 6: the plan's place for cron jobs and backups.

use magrathea_core::names::Layer;
use magrathea_core::plan::{Resource, Spec, SupportSpec};

use crate::{InstanceInput, resource};

pub fn plan_support(input: &InstanceInput<'_>) -> Option<Resource> {
    let support = &input.sections.support;
    if support.cron.is_empty() && support.backup.is_none() {
        return None;
    }
    let spec = SupportSpec { cron: support.cron.clone(), backup: support.backup.clone() };
    Some(resource(Layer::Support, "jobs", Spec::Support(spec)))
}
