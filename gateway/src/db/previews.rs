//! Previews: which instances live for a time only, and until when. All times are the database's.

use jiff::Timestamp;
use magrathea_core::manifest::Preview;
use magrathea_core::names::{AppId, ClusterName, InstanceId, LabelName};
use magrathea_core::previews::LabelPattern;
use magrathea_core::units::ByteSize;

use super::{Client, DbError, Row};

/// After so long another gateway takes away what one that is gone began to.
const PATIENCE: &str = "5 minutes";

/// A preview as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub pattern: LabelPattern,
    pub branch: String,
    pub expires: Timestamp,
    /// Whether it is being taken away.
    pub is_ending: bool,
}

/// The memory that an instance was promised for a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Period {
    pub from: Timestamp,
    pub until: Timestamp,
    pub memory: ByteSize,
}

fn stored(row: &Row) -> Result<Stored, DbError> {
    let pattern: &str = row.try_get(0)?;
    Ok(Stored {
        pattern: pattern.parse().map_err(|e| DbError::value("previews.pattern", e))?,
        branch: row.try_get(1)?,
        expires: row.try_get(2)?,
        is_ending: row.try_get(3)?,
    })
}

/// Lets others who make instances of the app wait, to the end of the caller's transaction.
pub async fn lock_app(client: &impl Client, app: AppId) -> Result<(), DbError> {
    client.execute("SELECT FROM apps WHERE id = $1 FOR UPDATE", &[&app.0]).await?;
    Ok(())
}

/// What makes an instance a preview; none when it is not one. Waits for whoever changes it.
pub async fn load_preview(client: &impl Client, instance: InstanceId) -> Result<Option<Stored>, DbError> {
    let sql = format!(
        "SELECT pattern, branch, expires, coalesce(ending > now() - interval '{PATIENCE}', false)
         FROM previews WHERE instance = $1"
    );
    client.query_opt(&sql, &[&instance.0]).await?.as_ref().map(stored).transpose()
}

/// How many previews an app has on a cluster.
pub async fn count_previews(client: &impl Client, app: AppId, cluster: &ClusterName) -> Result<i64, DbError> {
    let sql = "SELECT count(*) FROM previews p JOIN instances i ON i.id = p.instance
               WHERE i.app = $1 AND i.cluster = $2 AND i.destroyed IS NULL";
    Ok(client.query_one(sql, &[&app.0, &cluster.as_str()]).await?.try_get(0)?)
}

/// Makes an instance a preview, or lets it live longer. False when it is being taken away.
pub async fn keep_preview(client: &impl Client, instance: InstanceId, preview: &Preview) -> Result<bool, DbError> {
    let sql = format!(
        "INSERT INTO previews AS p (instance, pattern, branch, lifetime, expires)
         VALUES ($1, $2, $3, make_interval(secs => $4), now() + make_interval(secs => $4))
         ON CONFLICT (instance) DO UPDATE SET pattern = $2, lifetime = make_interval(secs => $4),
             expires = greatest(p.expires, now() + make_interval(secs => $4)), warned = NULL, ending = NULL
         WHERE p.ending IS NULL OR p.ending < now() - interval '{PATIENCE}'"
    );
    let seconds = preview.expire.0.as_secs_f64();
    let pattern = preview.pattern.to_string();
    Ok(client.execute(&sql, &[&instance.0, &pattern, &preview.branch, &seconds]).await? == 1)
}

/// Lets a preview live for its time once more; any other instance is left alone.
pub async fn renew_preview(client: &impl Client, instance: InstanceId) -> Result<(), DbError> {
    let sql = "UPDATE previews SET expires = greatest(expires, now() + lifetime), warned = NULL
               WHERE instance = $1 AND ending IS NULL";
    client.execute(sql, &[&instance.0]).await?;
    Ok(())
}

/// Lets a preview live for so many seconds from now on; none when it is not one, or is being taken away.
pub async fn extend_preview(
    client: &impl Client,
    instance: InstanceId,
    seconds: f64,
) -> Result<Option<Timestamp>, DbError> {
    let sql = format!(
        "UPDATE previews SET expires = now() + make_interval(secs => $2), warned = NULL, ending = NULL
         WHERE instance = $1 AND (ending IS NULL OR ending < now() - interval '{PATIENCE}') RETURNING expires"
    );
    let row = client.query_opt(&sql, &[&instance.0, &seconds]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Makes an instance stay. True when it was a preview.
pub async fn forget_preview(client: &impl Client, instance: InstanceId) -> Result<bool, DbError> {
    Ok(client.execute("DELETE FROM previews WHERE instance = $1", &[&instance.0]).await? == 1)
}

/// An app's previews by branch.
pub async fn list_of_app(client: &impl Client, app: AppId) -> Result<Vec<(String, LabelName)>, DbError> {
    let sql = "SELECT DISTINCT p.branch, i.label FROM previews p JOIN instances i ON i.id = p.instance
               WHERE i.app = $1 AND i.destroyed IS NULL ORDER BY 1, 2";
    let rows = client.query(sql, &[&app.0]).await?;
    rows.iter()
        .map(|row| {
            let label: &str = row.try_get(1)?;
            Ok((row.try_get(0)?, label.parse().map_err(|e| DbError::value("instances.label", e))?))
        })
        .collect()
}

/// Marks a preview as one that is taken away: it cannot be deployed or extended from now on. False when it is not one, or
/// somebody else takes it away.
pub async fn begin_end(client: &impl Client, instance: InstanceId) -> Result<bool, DbError> {
    let sql = format!(
        "UPDATE previews SET ending = now()
         WHERE instance = $1 AND (ending IS NULL OR ending < now() - interval '{PATIENCE}')"
    );
    Ok(client.execute(&sql, &[&instance.0]).await? == 1)
}

/// Takes that mark away again.
pub async fn give_up_end(client: &impl Client, instance: InstanceId) -> Result<(), DbError> {
    client.execute("UPDATE previews SET ending = NULL WHERE instance = $1", &[&instance.0]).await?;
    Ok(())
}

/// Marks all that have expired and that no deploy holds, as [`begin_end`] does; each is given to one gateway.
pub async fn claim_expired(client: &impl Client) -> Result<Vec<InstanceId>, DbError> {
    let sql = format!(
        "UPDATE previews p SET ending = now()
         WHERE p.expires <= now() AND (p.ending IS NULL OR p.ending < now() - interval '{PATIENCE}')
             AND NOT EXISTS (SELECT FROM deploys d
                 WHERE d.instance = p.instance AND d.status IN ('waiting', 'running'))
         RETURNING p.instance"
    );
    let rows = client.query(&sql, &[]).await?;
    rows.iter().map(|row| Ok(InstanceId(row.try_get(0)?))).collect()
}

/// The previews that expire soon, within a day or the last quarter of their time, and when; each is told once.
pub async fn claim_warnings(client: &impl Client) -> Result<Vec<(InstanceId, Timestamp)>, DbError> {
    let sql = "UPDATE previews SET warned = now()
               WHERE warned IS NULL AND expires > now() AND expires < now() + least(interval '1 day', lifetime / 4)
               RETURNING instance, expires";
    let rows = client.query(sql, &[]).await?;
    rows.iter().map(|row| Ok((InstanceId(row.try_get(0)?), row.try_get(1)?))).collect()
}

/// What an instance was promised, from deploy to deploy until now.
pub async fn list_periods(client: &impl Client, instance: InstanceId) -> Result<Vec<Period>, DbError> {
    let sql = "SELECT finished, lead(finished, 1, now()) OVER (ORDER BY finished), coalesce(memory, 0)
               FROM deploys WHERE instance = $1 AND status = 'succeeded' AND finished IS NOT NULL ORDER BY finished";
    let rows = client.query(sql, &[&instance.0]).await?;
    let period = |row: &Row| {
        let memory = ByteSize(row.try_get::<_, i64>(2)?.unsigned_abs());
        Ok(Period { from: row.try_get(0)?, until: row.try_get(1)?, memory })
    };
    rows.iter().map(period).collect()
}
