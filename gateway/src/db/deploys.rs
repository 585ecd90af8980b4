//! Deploys: their state, their lease, their steps and their events. The partial unique index `deploys_one_running` is
//! the lock: a row with status `running` holds its instance for as long as it says so.

use jiff::Timestamp;
use magrathea_core::api::{DeployEvent, DeployEventKind, DeployFailure, DeployInfo, DeployStatus, Phase, SourceInfo};
use magrathea_core::names::{AppId, DeployId, InstanceId, ReleaseNumber};
use magrathea_core::plan::Plan;
use magrathea_core::wire::Serving;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Client, DbError, Row};

/// How long a gateway that runs a deploy may be silent before another takes over, in seconds.
const LEASE: &str = "30 seconds";

/// A deploy as stored.
#[derive(Debug, Clone)]
pub struct Deploy {
    pub info: DeployInfo,
    pub committed: bool,
    pub image: Option<String>,
}

/// A deploy to record.
#[derive(Debug)]
pub struct NewDeploy<'a> {
    pub id: DeployId,
    pub instance: InstanceId,
    pub actor: &'a str,
    pub status: DeployStatus,
    pub phase: Phase,
    /// SHA-256 of the source.
    pub source: &'a str,
    pub info: &'a SourceInfo,
    pub gateway: Uuid,
    /// Why the gateway itself gives what serves another number of replicas.
    pub scale_reason: Option<&'a str>,
}

/// A row's text or number as the value of an enum or a name; both have one JSON form, a string.
fn parse<T: DeserializeOwned>(column: &'static str, text: &str) -> Result<T, DbError> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|e| DbError::value(column, e))
}

/// The text of an enum whose JSON form is a string.
fn text<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

/// A release number as PostgreSQL has it.
pub(super) fn number_in(number: ReleaseNumber) -> i32 {
    i32::try_from(number.0).unwrap_or(i32::MAX)
}

/// A release number from PostgreSQL.
pub(super) fn number_out(number: i32) -> ReleaseNumber {
    ReleaseNumber(u32::try_from(number).unwrap_or(0))
}

const COLUMNS: &str = "d.id, a.name, i.label, i.cluster, d.instance, d.status, d.phase, d.release, d.urls, d.serving, \
    d.failure, d.actor, d.created, d.finished, d.committed, d.image";
const TABLES: &str = "deploys d JOIN instances i ON i.id = d.instance JOIN apps a ON a.id = i.app";

fn deploy(row: &Row) -> Result<Deploy, DbError> {
    let urls: Json<Vec<String>> = row.try_get(8)?;
    let serving: Option<Json<Serving>> = row.try_get(9)?;
    let failure: Option<Json<DeployFailure>> = row.try_get(10)?;
    let release: Option<i32> = row.try_get(7)?;
    Ok(Deploy {
        info: DeployInfo {
            id: row.try_get(0)?,
            app: row.try_get(1)?,
            label: row.try_get(2)?,
            cluster: row.try_get(3)?,
            instance: row.try_get(4)?,
            status: parse("deploys.status", row.try_get(5)?)?,
            phase: parse("deploys.phase", row.try_get(6)?)?,
            release: release.map(number_out),
            urls: urls.0,
            serving: serving.map(|json| json.0),
            failure: failure.map(|json| json.0),
            person: row.try_get(11)?,
            created: row.try_get(12)?,
            finished: row.try_get(13)?,
            unchanged: false,
        },
        committed: row.try_get(14)?,
        image: row.try_get(15)?,
    })
}

impl Deploy {
    pub fn id(&self) -> DeployId {
        DeployId(self.info.id)
    }
    pub fn instance(&self) -> InstanceId {
        InstanceId(self.info.instance)
    }
}

/// Records a deploy. Violates `deploys_one_running` when another runs, `deploys_by_key` when it is a retry.
pub async fn insert_deploy(client: &impl Client, new: &NewDeploy<'_>) -> Result<(), DbError> {
    let sql = format!(
        "INSERT INTO deploys (id, instance, actor, status, phase, source, info, idempotency_key, gateway, scale_reason,
             lease)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() + interval '{LEASE}')"
    );
    let statement = client.prepare_cached(&sql).await?;
    client
        .execute(
            &statement,
            &[
                &new.id.0,
                &new.instance.0,
                &new.actor,
                &text(new.status),
                &text(new.phase),
                &new.source,
                &Json(new.info),
                &new.info.idempotency_key,
                &new.gateway,
                &new.scale_reason,
            ],
        )
        .await?;
    Ok(())
}

/// Lets a waiting deploy run. False when another still does.
pub async fn begin_deploy(client: &impl Client, id: DeployId) -> Result<bool, DbError> {
    let sql = "UPDATE deploys SET status = 'running' WHERE id = $1 AND status = 'waiting'
               AND NOT EXISTS (SELECT FROM deploys o JOIN deploys d ON d.instance = o.instance
                               WHERE d.id = $1 AND o.status = 'running')";
    match client.execute(sql, &[&id.0]).await.map_err(DbError::from) {
        Ok(rows) => Ok(rows == 1),
        Err(error) if error.violates("deploys_one_running") => Ok(false),
        Err(error) => Err(error),
    }
}

/// One deploy.
pub async fn load_deploy(client: &impl Client, id: DeployId) -> Result<Option<Deploy>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLES} WHERE d.id = $1");
    let statement = client.prepare_cached(&sql).await?;
    client.query_opt(&statement, &[&id.0]).await?.as_ref().map(deploy).transpose()
}

/// The deploy that an earlier try with this key began.
pub async fn find_by_key(client: &impl Client, instance: InstanceId, key: &str) -> Result<Option<Deploy>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLES} WHERE d.instance = $1 AND d.idempotency_key = $2");
    client.query_opt(&sql, &[&instance.0, &key]).await?.as_ref().map(deploy).transpose()
}

/// The deploy that holds the instance.
pub async fn find_running(client: &impl Client, instance: InstanceId) -> Result<Option<Deploy>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLES} WHERE d.instance = $1 AND d.status = 'running'");
    client.query_opt(&sql, &[&instance.0]).await?.as_ref().map(deploy).transpose()
}

/// The last deploy that brought a release.
pub async fn find_bringer(
    client: &impl Client,
    instance: InstanceId,
    release: ReleaseNumber,
) -> Result<Option<Deploy>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {TABLES} WHERE d.instance = $1 AND d.release = $2 AND d.status = 'succeeded'
         ORDER BY d.finished DESC LIMIT 1"
    );
    client.query_opt(&sql, &[&instance.0, &number_in(release)]).await?.as_ref().map(deploy).transpose()
}

/// An app's deploys, the newest first.
pub async fn list_of_app(client: &impl Client, app: AppId, limit: i64) -> Result<Vec<Deploy>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLES} WHERE a.id = $1 ORDER BY d.created DESC LIMIT $2");
    client.query(&sql, &[&app.0, &limit]).await?.iter().map(deploy).collect()
}

/// All deploys that are not over, the newest first.
pub async fn list_unfinished(client: &impl Client, limit: i64) -> Result<Vec<Deploy>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {TABLES} WHERE d.status IN ('waiting', 'running') ORDER BY d.created DESC LIMIT $1"
    );
    client.query(&sql, &[&limit]).await?.iter().map(deploy).collect()
}

/// Takes over what nobody runs any more: deploys whose lease ran out, and with `previous` those of an earlier
/// process of this gateway, which is known to be gone.
pub async fn claim_orphans(
    client: &impl Client,
    gateway: Uuid,
    previous: bool,
) -> Result<Vec<(DeployId, InstanceId)>, DbError> {
    let sql = format!(
        "UPDATE deploys SET gateway = $1, lease = now() + interval '{LEASE}'
         WHERE status IN ('waiting', 'running') AND (lease < now() OR $2 AND gateway = $1) RETURNING id, instance"
    );
    let rows = client.query(&sql, &[&gateway, &previous]).await?;
    rows.iter().map(|row| Ok((DeployId(row.try_get(0)?), InstanceId(row.try_get(1)?)))).collect()
}

/// What a heartbeat learns.
#[derive(Debug, PartialEq, Eq)]
pub enum Beat {
    Held,
    /// This person wants it to stop.
    Cancelled(String),
    /// Another gateway took it over, or it is over.
    Gone,
}

/// Renews the lease.
pub async fn beat(client: &impl Client, id: DeployId, gateway: Uuid) -> Result<Beat, DbError> {
    let sql = format!(
        "UPDATE deploys SET lease = now() + interval '{LEASE}'
         WHERE id = $1 AND gateway = $2 AND status IN ('waiting', 'running') RETURNING cancelled_by"
    );
    let row = client.query_opt(&sql, &[&id.0, &gateway]).await?;
    Ok(match row.map(|row| row.try_get::<_, Option<String>>(0)).transpose()? {
        None => Beat::Gone,
        Some(None) => Beat::Held,
        Some(Some(person)) => Beat::Cancelled(person),
    })
}

/// Asks for a deploy to stop. False when it is over or past the cut-over.
pub async fn request_cancel(client: &impl Client, id: DeployId, person: &str) -> Result<bool, DbError> {
    let sql = "UPDATE deploys SET cancelled_by = coalesce(cancelled_by, $2)
               WHERE id = $1 AND status IN ('waiting', 'running') AND NOT committed
               AND phase NOT IN ('routing', 'watch', 'drain', 'after_hook', 'record')";
    Ok(client.execute(sql, &[&id.0, &person]).await? == 1)
}

/// Lets a release on trial serve everybody. False when the deploy has none on trial.
pub async fn request_promotion(client: &impl Client, id: DeployId, person: &str) -> Result<bool, DbError> {
    let sql = "UPDATE deploys SET promoted_by = coalesce(promoted_by, $2)
               WHERE id = $1 AND status = 'running' AND phase = 'canary' AND cancelled_by IS NULL";
    Ok(client.execute(sql, &[&id.0, &person]).await? == 1)
}

/// Who wants a release on trial to serve everybody.
pub async fn find_promotion(client: &impl Client, id: DeployId) -> Result<Option<String>, DbError> {
    let statement = client.prepare_cached("SELECT promoted_by FROM deploys WHERE id = $1").await?;
    let row = client.query_opt(&statement, &[&id.0]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
}

/// The share of visitors that the release is tried on, in percent; none when it is not.
pub async fn find_share(client: &impl Client, id: DeployId) -> Result<Option<u8>, DbError> {
    let row = client.query_opt("SELECT info FROM deploys WHERE id = $1", &[&id.0]).await?;
    let info = row.map(|row| row.try_get::<_, Json<SourceInfo>>(0)).transpose()?;
    Ok(info.and_then(|info| info.0.canary))
}

/// Ends one phase and begins the next. Not waited for on disk: recovery asks the router, not this table.
pub async fn enter_phase(
    client: &impl Client,
    id: DeployId,
    ended: Option<(Phase, &str)>,
    begun: Option<Phase>,
) -> Result<(), DbError> {
    let sql = "WITH ended AS (
                   UPDATE deploy_steps SET finished = clock_timestamp(), detail = $3 WHERE deploy = $1 AND phase = $2),
               begun AS (
                   INSERT INTO deploy_steps (deploy, phase) SELECT $1, $4
                   FROM set_config('synchronous_commit', 'off', true) WHERE $4 IS NOT NULL
                   ON CONFLICT (deploy, phase) DO UPDATE SET finished = NULL)
               UPDATE deploys SET phase = coalesce($4, phase) WHERE id = $1";
    let (phase, detail) = ended.unzip();
    let statement = client.prepare_typed_cached(sql, PHASE_TYPES).await?;
    client.execute(&statement, &[&id.0, &phase.map(text), &detail, &begun.map(text)]).await?;
    Ok(())
}

const PHASE_TYPES: &[tokio_postgres::types::Type] = {
    use tokio_postgres::types::Type;
    &[Type::UUID, Type::TEXT, Type::TEXT, Type::TEXT]
};

/// Whether a phase was finished.
pub async fn has_finished(client: &impl Client, id: DeployId, phase: Phase) -> Result<bool, DbError> {
    let sql = "SELECT FROM deploy_steps WHERE deploy = $1 AND phase = $2 AND finished IS NOT NULL";
    Ok(client.query_opt(sql, &[&id.0, &text(phase)]).await?.is_some())
}

/// Notes the release that the deploy makes.
pub async fn set_release(
    client: &impl Client,
    id: DeployId,
    release: ReleaseNumber,
    image: &str,
    urls: &[String],
) -> Result<(), DbError> {
    let sql = "UPDATE deploys SET release = $2, image = $3, urls = $4 WHERE id = $1";
    client.execute(sql, &[&id.0, &number_in(release), &image, &Json(urls)]).await?;
    Ok(())
}

/// Notes what is about to be laid for an instance that has no plan yet, so that it can be destroyed.
pub async fn set_ground(client: &impl Client, id: DeployId, draft: &Plan) -> Result<(), DbError> {
    client.execute("UPDATE deploys SET ground = $2 WHERE id = $1", &[&id.0, &Json(draft)]).await?;
    Ok(())
}

/// The newest draft that was laid for an instance.
pub async fn load_ground(client: &impl Client, instance: InstanceId) -> Result<Option<Plan>, DbError> {
    let sql = "SELECT ground FROM deploys WHERE instance = $1 AND ground IS NOT NULL ORDER BY created DESC LIMIT 1";
    let row = client.query_opt(sql, &[&instance.0]).await?;
    row.map(|row| Ok(row.try_get::<_, Json<Plan>>(0)?.0)).transpose()
}

/// Notes that routing has switched.
pub async fn commit_deploy(client: &impl Client, id: DeployId, serving: &Serving) -> Result<(), DbError> {
    let sql = "UPDATE deploys SET committed = true, serving = $2 WHERE id = $1";
    client.execute(sql, &[&id.0, &Json(serving)]).await?;
    Ok(())
}

/// How a deploy ended.
#[derive(Debug)]
pub struct End<'a> {
    pub status: DeployStatus,
    pub serving: Option<&'a Serving>,
    pub failure: Option<&'a DeployFailure>,
}

/// Ends a deploy; one that is over stays as it is.
pub async fn finish_deploy(client: &impl Client, id: DeployId, end: &End<'_>) -> Result<(), DbError> {
    let sql = "UPDATE deploys SET status = $2, serving = coalesce($3, serving), failure = $4, finished = now()
               WHERE id = $1 AND status IN ('waiting', 'running')";
    client.execute(sql, &[&id.0, &text(end.status), &end.serving.map(Json), &end.failure.map(Json)]).await?;
    Ok(())
}

/// Adds events. Their numbers are the caller's; not waited for on disk.
pub async fn insert_events(client: &impl Client, id: DeployId, events: &[DeployEvent]) -> Result<(), DbError> {
    let sql = "INSERT INTO deploy_events (deploy, sequence, at, event)
               SELECT $1, e.sequence, e.at, e.event
               FROM unnest($2::bigint[], $3::timestamptz[], $4::jsonb[]) AS e (sequence, at, event),
                    set_config('synchronous_commit', 'off', true)
               ON CONFLICT DO NOTHING";
    let sequences: Vec<i64> = events.iter().map(|e| i64::try_from(e.sequence).unwrap_or(i64::MAX)).collect();
    let times: Vec<Timestamp> = events.iter().map(|e| e.at).collect();
    let kinds: Vec<Json<&DeployEventKind>> = events.iter().map(|e| Json(&e.event)).collect();
    let statement = client.prepare_cached(sql).await?;
    client.execute(&statement, &[&id.0, &sequences, &times, &kinds]).await?;
    Ok(())
}

/// A deploy's events after a number, at most `limit`.
pub async fn load_events(
    client: &impl Client,
    id: DeployId,
    after: u64,
    limit: i64,
) -> Result<Vec<DeployEvent>, DbError> {
    let sql = "SELECT sequence, at, event FROM deploy_events WHERE deploy = $1 AND sequence > $2
               ORDER BY sequence LIMIT $3";
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &[&id.0, &after, &limit]).await?;
    rows.iter()
        .map(|row| {
            let sequence: i64 = row.try_get(0)?;
            let event: Json<DeployEventKind> = row.try_get(2)?;
            Ok(DeployEvent { sequence: sequence.unsigned_abs(), at: row.try_get(1)?, event: event.0 })
        })
        .collect()
}

/// The number of a deploy's last event.
pub async fn last_event(client: &impl Client, id: DeployId) -> Result<u64, DbError> {
    let sql = "SELECT coalesce(max(sequence), 0) FROM deploy_events WHERE deploy = $1";
    let last: i64 = client.query_one(sql, &[&id.0]).await?.try_get(0)?;
    Ok(last.unsigned_abs())
}

/// A line of what an instance's deploys said.
#[derive(Debug, Clone)]
pub struct DeployLine {
    pub at: Timestamp,
    pub sequence: i64,
    pub release: Option<ReleaseNumber>,
    pub event: DeployEventKind,
}

/// Which events are lines of a log.
const LINES: &str = "FROM deploy_events e JOIN deploys d ON d.id = e.deploy
     WHERE d.instance = $1 AND e.event->>'event' IN ('log', 'warning', 'finished')";

/// What an instance's deploys said after a time and number, at most `limit` lines.
pub async fn lines_after(
    client: &impl Client,
    instance: InstanceId,
    (at, sequence): (Timestamp, i64),
    limit: i64,
) -> Result<Vec<DeployLine>, DbError> {
    let sql = format!(
        "SELECT e.at, e.sequence, d.release, e.event {LINES} AND (e.at, e.sequence) > ($2, $3)
         ORDER BY e.at, e.sequence LIMIT $4"
    );
    let statement = client.prepare_cached(&sql).await?;
    let rows = client.query(&statement, &[&instance.0, &at, &sequence, &limit]).await?;
    rows.iter()
        .map(|row| {
            let (release, event): (Option<i32>, Json<DeployEventKind>) = (row.try_get(2)?, row.try_get(3)?);
            Ok(DeployLine {
                at: row.try_get(0)?,
                sequence: row.try_get(1)?,
                release: release.and_then(|number| u32::try_from(number).ok()).map(ReleaseNumber),
                event: event.0,
            })
        })
        .collect()
}

/// The time of the line that so many end with; none when there are fewer.
pub async fn nth_last_line(
    client: &impl Client,
    instance: InstanceId,
    count: u32,
) -> Result<Option<Timestamp>, DbError> {
    let sql = format!("SELECT e.at {LINES} ORDER BY e.at DESC, e.sequence DESC OFFSET $2 LIMIT 1");
    let offset = i64::from(count.max(1)) - 1;
    let row = client.query_opt(&sql, &[&instance.0, &offset]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}
