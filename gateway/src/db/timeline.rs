//! The timeline: who did what, when, and how it went. Append-only; the database itself refuses a change.

use magrathea_core::api::{DeployInfo, TimelineEntry};
use magrathea_core::names::{AppName, ClusterName, LabelName, OrganisationId};
use magrathea_core::people::{Access, Grant, Scope, Verb};
use uuid::Uuid;

use super::instances::Instance;
use super::{Client, DbError};
use crate::actor::{Actor, GATEWAY};

/// A line to append.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewEntry<'a> {
    /// None: the gateway itself.
    pub actor: Option<&'a Actor>,
    /// As in `deploy.succeeded` or `app.created`.
    pub action: &'a str,
    pub app: Option<&'a str>,
    pub label: Option<&'a str>,
    pub cluster: Option<&'a str>,
    /// Whose it is; the app's organisation, or the actor's own, when absent.
    pub organisation: Option<OrganisationId>,
    pub message: &'a str,
}

impl<'a> NewEntry<'a> {
    /// What was done to an instance.
    pub fn about(instance: &'a Instance, actor: Option<&'a Actor>, action: &'a str, message: &'a str) -> Self {
        NewEntry {
            actor,
            action,
            app: Some(instance.app_name.as_str()),
            label: Some(instance.label.as_str()),
            cluster: Some(instance.cluster.as_str()),
            message,
            organisation: None,
        }
    }

    /// What was done to a deploy.
    pub fn about_deploy(deploy: &'a DeployInfo, actor: &'a Actor, action: &'a str, message: &'a str) -> Self {
        NewEntry {
            actor: Some(actor),
            action,
            app: Some(&deploy.app),
            label: Some(&deploy.label),
            cluster: Some(&deploy.cluster),
            message,
            organisation: None,
        }
    }
}

pub async fn append(client: &impl Client, entry: NewEntry<'_>) -> Result<(), DbError> {
    let person = entry.actor.map(|actor| actor.person.0);
    let name = entry.actor.map_or(GATEWAY, |actor| actor.name.as_str());
    let organisation = entry.organisation.or(entry.actor.map(|actor| actor.organisation)).map(|id| id.0);
    let address = entry.actor.and_then(|actor| actor.address).map(|address| address.to_string());
    client
        .execute(
            "WITH of AS (SELECT id, organisation FROM apps WHERE name = $4
                         ORDER BY destroyed IS NULL DESC, destroyed DESC LIMIT 1)
             INSERT INTO timeline (person, actor, action, app, label, cluster, message, address, organisation, app_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, COALESCE((SELECT organisation FROM of), $9), (SELECT id FROM of))",
            &[
                &person,
                &name,
                &entry.action,
                &entry.app,
                &entry.label,
                &entry.cluster,
                &entry.message,
                &address,
                &organisation,
            ],
        )
        .await?;
    Ok(())
}

/// What somebody may see of the timeline.
#[derive(Debug, Default)]
struct Visible {
    everything: bool,
    organisations: Vec<Uuid>,
    apps: Vec<Uuid>,
    /// `APP/LABEL`.
    labels: Vec<String>,
    /// `APP/LABEL`s that begin so.
    patterns: Vec<String>,
}

impl Visible {
    fn of(grants: &[Grant]) -> Self {
        let mut visible = Visible::default();
        for grant in grants.iter().filter(|grant| grant.role.may(Verb::Look)) {
            match &grant.scope {
                Scope::Platform => visible.everything = true,
                Scope::Organisation(id) => visible.organisations.push(id.0),
                Scope::App(id) => visible.apps.push(id.0),
                Scope::Label(id, label) => visible.labels.push(format!("{id}/{label}")),
                Scope::Labels(id, pattern) => visible.patterns.push(format!("{id}/{}-", pattern.prefix())),
            }
        }
        visible
    }
}

/// Which lines are asked for.
#[derive(Debug, Default, Clone, Copy)]
pub struct Of<'a> {
    pub app: Option<&'a AppName>,
    pub label: Option<&'a LabelName>,
    pub cluster: Option<&'a ClusterName>,
}

/// The last lines that somebody may see, newest first.
pub async fn list(
    client: &impl Client,
    access: &Access,
    of: Of<'_>,
    limit: u16,
) -> Result<Vec<TimelineEntry>, DbError> {
    let own = Visible::of(&access.grants);
    let limits = access.limits.as_ref().map_or(Visible { everything: true, ..Visible::default() }, |l| Visible::of(l));
    let rows = client
        .query(
            "SELECT id, at, actor, action, app, label, cluster, message, address FROM timeline
             WHERE ($1::text IS NULL OR app = $1) AND ($13::text IS NULL OR label = $13)
                 AND ($14::text IS NULL OR cluster = $14)
                 AND ($3 OR organisation = ANY($4) OR app_id = ANY($5) OR app_id || '/' || label = ANY($6)
                     OR EXISTS (SELECT FROM unnest($11::text[]) AS p WHERE starts_with(app_id || '/' || label, p)))
                 AND ($7 OR organisation = ANY($8) OR app_id = ANY($9) OR app_id || '/' || label = ANY($10)
                     OR EXISTS (SELECT FROM unnest($12::text[]) AS p WHERE starts_with(app_id || '/' || label, p)))
             ORDER BY id DESC LIMIT $2",
            &[
                &of.app.map(AppName::as_str),
                &i64::from(limit),
                &own.everything,
                &own.organisations,
                &own.apps,
                &own.labels,
                &limits.everything,
                &limits.organisations,
                &limits.apps,
                &limits.labels,
                &own.patterns,
                &limits.patterns,
                &of.label.map(LabelName::as_str),
                &of.cluster.map(ClusterName::as_str),
            ],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(TimelineEntry {
                id: row.try_get(0)?,
                at: row.try_get(1)?,
                actor: row.try_get(2)?,
                action: row.try_get(3)?,
                app: row.try_get(4)?,
                label: row.try_get(5)?,
                cluster: row.try_get(6)?,
                message: row.try_get(7)?,
                address: row.try_get(8)?,
            })
        })
        .collect()
}
