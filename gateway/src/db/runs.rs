//! Detached runs and what they said.

use magrathea_core::api::{RunInfo, RunLine, RunStatus};
use magrathea_core::names::{AppId, InstanceId};
use magrathea_core::people::Role;
use uuid::Uuid;

use super::{Client, DbError, Row};

/// How long a run that is over is kept.
const KEPT: &str = "30 days";

/// A run to record.
#[derive(Debug)]
pub struct NewRun<'a> {
    pub id: Uuid,
    pub instance: InstanceId,
    pub actor: &'a str,
    pub command: &'a str,
    pub task: Option<Task<'a>>,
    pub seconds: u64,
    /// The gateway that waits for it.
    pub gateway: Uuid,
}

/// The task that a run is of, and the least role that may run it.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    pub name: &'a str,
    pub role: Role,
}

/// The constraint that a second run of a task violates.
pub const TASK_RUNS: &str = "runs_one_of_task";

/// A run with who may see and stop it.
#[derive(Debug)]
pub struct Stored {
    pub info: RunInfo,
    pub role: Role,
}

const SELECT: &str = "SELECT r.id, a.name, i.label, i.cluster, r.actor, r.command, r.status, r.exit_code, r.message,
     r.started, r.ended, r.span, r.instance, r.task, r.role
     FROM runs r JOIN instances i ON i.id = r.instance JOIN apps a ON a.id = i.app";

fn info(row: &Row) -> Result<RunInfo, DbError> {
    let status: String = row.try_get(6)?;
    let status = RunStatus::ALL.into_iter().find(|known| known.as_str() == status);
    let seconds: i64 = row.try_get(11)?;
    Ok(RunInfo {
        id: row.try_get(0)?,
        app: row.try_get(1)?,
        label: row.try_get(2)?,
        cluster: row.try_get(3)?,
        person: row.try_get(4)?,
        command: row.try_get(5)?,
        status: status.unwrap_or(RunStatus::Failed),
        exit_code: row.try_get(7)?,
        message: row.try_get(8)?,
        started: row.try_get(9)?,
        ended: row.try_get(10)?,
        time_limit: seconds.unsigned_abs(),
        instance: row.try_get(12)?,
        task: row.try_get(13)?,
    })
}

fn stored(row: &Row) -> Result<Stored, DbError> {
    let role: Option<&str> = row.try_get(14)?;
    let role = role.map(|role| role.parse().map_err(|e| DbError::value("runs.role", e))).transpose()?;
    Ok(Stored { info: info(row)?, role: role.unwrap_or(Role::Operator) })
}

/// Records a run, and forgets those that are long over.
pub async fn insert_run(client: &impl Client, new: &NewRun<'_>) -> Result<(), DbError> {
    let sql = format!("DELETE FROM runs WHERE instance = $1 AND ended < now() - interval '{KEPT}'");
    client.execute(&sql, &[&new.instance.0]).await?;
    let seconds = i64::try_from(new.seconds).unwrap_or(i64::MAX);
    let (task, role) = new.task.map(|task| (task.name, task.role.as_str())).unzip();
    client
        .execute(
            "INSERT INTO runs (id, instance, actor, command, span, gateway, task, role)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[&new.id, &new.instance.0, &new.actor, &new.command, &seconds, &new.gateway, &task, &role],
        )
        .await?;
    Ok(())
}

/// One run; of whichever app.
pub async fn load_run(client: &impl Client, id: Uuid) -> Result<Option<Stored>, DbError> {
    client.query_opt(&format!("{SELECT} WHERE r.id = $1"), &[&id]).await?.as_ref().map(stored).transpose()
}

/// The run of a task that is under way.
pub async fn find_task_run(client: &impl Client, instance: InstanceId, task: &str) -> Result<Option<RunInfo>, DbError> {
    let sql = format!("{SELECT} WHERE r.instance = $1 AND r.task = $2 AND r.status = 'running'");
    client.query_opt(&sql, &[&instance.0, &task]).await?.as_ref().map(info).transpose()
}

/// Ends runs of a task that nobody waits for any more: their gateway is gone, and their time is over since long.
pub async fn give_up_task(client: &impl Client, instance: InstanceId, task: &str) -> Result<(), DbError> {
    let sql = "UPDATE runs SET status = 'failed', message = 'the gateway that waited for it is gone', ended = now()
               WHERE instance = $1 AND task = $2 AND status = 'running'
                   AND started + make_interval(secs => span) < now() - interval '15 minutes'";
    client.execute(sql, &[&instance.0, &task]).await?;
    Ok(())
}

/// An app's runs, the newest first.
pub async fn list_runs(client: &impl Client, app: AppId, limit: i64) -> Result<Vec<Stored>, DbError> {
    let sql = format!("{SELECT} WHERE i.app = $1 ORDER BY r.started DESC LIMIT $2");
    client.query(&sql, &[&app.0, &limit]).await?.iter().map(stored).collect()
}

/// How many of an instance's runs are not over.
pub async fn count_running(client: &impl Client, instance: InstanceId) -> Result<i64, DbError> {
    let sql = "SELECT count(*) FROM runs WHERE instance = $1 AND status = 'running'";
    Ok(client.query_one(sql, &[&instance.0]).await?.try_get(0)?)
}

/// The runs that a gateway waited for when it ended.
pub async fn list_running(client: &impl Client, gateway: Uuid) -> Result<Vec<RunInfo>, DbError> {
    let sql = format!("{SELECT} WHERE r.gateway = $1 AND r.status = 'running'");
    client.query(&sql, &[&gateway]).await?.iter().map(info).collect()
}

/// Notes how a run ended. One that was stopped stays so.
pub async fn finish_run(
    client: &impl Client,
    id: Uuid,
    status: RunStatus,
    exit_code: Option<i32>,
    message: Option<&str>,
) -> Result<(), DbError> {
    client
        .execute(
            "UPDATE runs SET status = $2, exit_code = $3, message = $4, ended = now()
             WHERE id = $1 AND status = 'running'",
            &[&id, &status.as_str(), &exit_code, &message],
        )
        .await?;
    Ok(())
}

/// The runs that are not over, whichever gateway waits for them.
pub async fn list_running_ids(client: &impl Client) -> Result<Vec<Uuid>, DbError> {
    let rows = client.query("SELECT id FROM runs WHERE status = 'running'", &[]).await?;
    rows.iter().map(|row| row.try_get(0).map_err(DbError::from)).collect()
}

/// Adds numbered lines.
pub async fn append_lines(client: &impl Client, id: Uuid, lines: &[(i64, String)]) -> Result<(), DbError> {
    let (numbers, texts): (Vec<i64>, Vec<&str>) = lines.iter().map(|(number, line)| (*number, line.as_str())).unzip();
    client
        .execute(
            "INSERT INTO run_lines (run, sequence, line)
             SELECT $1, number, line FROM unnest($2::bigint[], $3::text[]) AS t (number, line)
             ON CONFLICT DO NOTHING",
            &[&id, &numbers, &texts],
        )
        .await?;
    Ok(())
}

/// The number of a run's last line.
pub async fn count_lines(client: &impl Client, id: Uuid) -> Result<u64, DbError> {
    let sql = "SELECT coalesce(max(sequence), 0) FROM run_lines WHERE run = $1";
    Ok(client.query_one(sql, &[&id]).await?.try_get::<_, i64>(0)?.unsigned_abs())
}

/// What a run said after a line.
pub async fn list_lines(client: &impl Client, id: Uuid, after: i64) -> Result<Vec<RunLine>, DbError> {
    let sql = "SELECT sequence, line FROM run_lines WHERE run = $1 AND sequence > $2 ORDER BY sequence LIMIT 1000";
    let rows = client.query(sql, &[&id, &after]).await?;
    rows.iter().map(|row| Ok(RunLine { sequence: row.try_get(0)?, line: row.try_get(1)? })).collect()
}
