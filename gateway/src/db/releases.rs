//! Releases, what each instance serves, and which hosts it has.

use magrathea_core::api::{Release, ReleaseInfo, ReleaseState};
use magrathea_core::clusters::KeepReleases;
use magrathea_core::manifest::Resolved;
use magrathea_core::names::{ClusterName, InstanceId, ReleaseNumber};
use tokio_postgres::types::Json;

use super::deploys::{number_in, number_out};
use super::instances::Instance;
use super::{Client, DbError, Row};

/// A release to record.
#[derive(Debug)]
pub struct NewRelease<'a> {
    pub instance: InstanceId,
    pub number: ReleaseNumber,
    pub image: &'a str,
    pub size: u64,
    /// SHA-256 of the source.
    pub source: &'a str,
    pub resolved: &'a Resolved,
    pub config_version: i64,
    pub commit: Option<&'a str>,
    pub message: Option<&'a str>,
    pub author: Option<&'a str>,
}

/// What an instance serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServingRow {
    pub release: ReleaseNumber,
    pub generation: u64,
}

/// The number that the instance's next release gets. Stable while the instance is held.
pub async fn next_number(client: &impl Client, instance: InstanceId) -> Result<ReleaseNumber, DbError> {
    let sql = "SELECT coalesce(max(number), 0) + 1 FROM releases WHERE instance = $1";
    let statement = client.prepare_cached(sql).await?;
    Ok(number_out(client.query_one(&statement, &[&instance.0]).await?.try_get(0)?))
}

pub async fn insert_release(client: &impl Client, new: &NewRelease<'_>) -> Result<(), DbError> {
    let sql = "INSERT INTO releases
               (instance, number, image, size, source, resolved, config_version, commit, message, author)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let statement = client.prepare_cached(sql).await?;
    client
        .execute(
            &statement,
            &[
                &new.instance.0,
                &number_in(new.number),
                &new.image,
                &i64::try_from(new.size).unwrap_or(i64::MAX),
                &new.source,
                &Json(new.resolved),
                &new.config_version,
                &new.commit,
                &new.message,
                &new.author,
            ],
        )
        .await?;
    Ok(())
}

/// Notes that a release never served.
pub async fn mark_failed(client: &impl Client, instance: InstanceId, number: ReleaseNumber) -> Result<(), DbError> {
    let sql = "UPDATE releases SET state = 'failed' WHERE instance = $1 AND number = $2 AND state = 'made'";
    client.execute(sql, &[&instance.0, &number_in(number)]).await?;
    Ok(())
}

/// One release as people see it.
pub async fn load_release(
    client: &impl Client,
    instance: InstanceId,
    number: ReleaseNumber,
) -> Result<Option<ReleaseInfo>, DbError> {
    let sql = "SELECT number, image, size, commit, message, author, created FROM releases
               WHERE instance = $1 AND number = $2";
    let Some(row) = client.query_opt(sql, &[&instance.0, &number_in(number)]).await? else { return Ok(None) };
    Ok(Some(info(&row)?))
}

/// A row that begins with number, image, size, commit, message, author and time.
fn info(row: &Row) -> Result<ReleaseInfo, DbError> {
    let size: i64 = row.try_get(2)?;
    Ok(ReleaseInfo {
        number: number_out(row.try_get(0)?),
        image: row.try_get(1)?,
        size: size.unsigned_abs(),
        commit: row.try_get(3)?,
        message: row.try_get(4)?,
        author: row.try_get(5)?,
        created: row.try_get(6)?,
    })
}

/// The releases of an instance, the newest first, or one of them.
pub async fn list_releases(
    client: &impl Client,
    instance: &Instance,
    number: Option<ReleaseNumber>,
    limit: u32,
) -> Result<Vec<Release>, DbError> {
    let sql = "SELECT r.number, r.image, r.size, r.commit, r.message, r.author, r.created, r.state, r.config_version,
                   s.release IS NOT NULL, first.actor, last.finished
               FROM releases r LEFT JOIN serving s ON s.instance = r.instance AND s.release = r.number
               LEFT JOIN LATERAL (SELECT d.actor FROM deploys d WHERE d.instance = r.instance
                   AND d.release = r.number ORDER BY d.created LIMIT 1) first ON true
               LEFT JOIN LATERAL (SELECT max(d.finished) AS finished FROM deploys d WHERE d.instance = r.instance
                   AND d.release = r.number AND d.status = 'succeeded') last ON true
               WHERE r.instance = $1 AND ($2::integer IS NULL OR r.number = $2) ORDER BY r.number DESC LIMIT $3";
    let rows = client.query(sql, &[&instance.id.0, &number.map(number_in), &i64::from(limit)]).await?;
    let release = |row: &Row| {
        let state: &str = row.try_get(7)?;
        Ok(Release {
            label: instance.label.to_string(),
            cluster: instance.cluster.to_string(),
            release: info(row)?,
            state: match state {
                "made" => ReleaseState::Made,
                "served" => ReleaseState::Served,
                "failed" => ReleaseState::Failed,
                _ => ReleaseState::Pruned,
            },
            config_version: row.try_get(8)?,
            serving: row.try_get(9)?,
            person: row.try_get(10)?,
            served: row.try_get(11)?,
        })
    };
    rows.iter().map(release).collect()
}

/// The hash of the source that a release was made from.
pub async fn load_source(
    client: &impl Client,
    instance: InstanceId,
    number: ReleaseNumber,
) -> Result<Option<String>, DbError> {
    let sql = "SELECT source FROM releases WHERE instance = $1 AND number = $2";
    let row = client.query_opt(sql, &[&instance.0, &number_in(number)]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// What a release was made with.
#[derive(Debug, Clone)]
pub struct Configured {
    pub resolved: Resolved,
    /// The version of the app's values.
    pub config_version: i64,
}

pub async fn load_configured(
    client: &impl Client,
    instance: InstanceId,
    number: ReleaseNumber,
) -> Result<Option<Configured>, DbError> {
    let sql = "SELECT resolved, config_version FROM releases WHERE instance = $1 AND number = $2";
    let Some(row) = client.query_opt(sql, &[&instance.0, &number_in(number)]).await? else { return Ok(None) };
    Ok(Some(Configured { resolved: row.try_get::<_, Json<Resolved>>(0)?.0, config_version: row.try_get(1)? }))
}

/// The manifest that a release was made with.
pub async fn load_resolved(
    client: &impl Client,
    instance: InstanceId,
    number: ReleaseNumber,
) -> Result<Option<Resolved>, DbError> {
    Ok(load_configured(client, instance, number).await?.map(|configured| configured.resolved))
}

/// The release that the last good deploy brought.
pub async fn load_serving(client: &impl Client, instance: InstanceId) -> Result<Option<ServingRow>, DbError> {
    let sql = "SELECT release, generation FROM serving WHERE instance = $1";
    let statement = client.prepare_cached(sql).await?;
    let Some(row) = client.query_opt(&statement, &[&instance.0]).await? else { return Ok(None) };
    let generation: i64 = row.try_get(1)?;
    Ok(Some(ServingRow { release: number_out(row.try_get(0)?), generation: generation.unsigned_abs() }))
}

/// Notes what an instance serves from now on, and that the release has served.
pub async fn set_serving(client: &impl Client, instance: InstanceId, serving: ServingRow) -> Result<(), DbError> {
    let sql = "WITH served AS (UPDATE releases SET state = 'served', last_served = now()
                   WHERE instance = $1 AND number = $2),
               before AS (UPDATE releases r SET last_served = now() FROM serving s
                   WHERE s.instance = $1 AND r.instance = $1 AND r.number = s.release AND s.release <> $2)
               INSERT INTO serving (instance, release, generation) VALUES ($1, $2, $3)
               ON CONFLICT (instance) DO UPDATE SET release = $2, generation = $3, since = now()";
    let generation = i64::try_from(serving.generation).unwrap_or(i64::MAX);
    client.execute(sql, &[&instance.0, &number_in(serving.release), &generation]).await?;
    Ok(())
}

/// Another plan of the very release that serves.
pub async fn move_serving(
    client: &impl Client,
    instance: InstanceId,
    release: ReleaseNumber,
    generation: u64,
) -> Result<(), DbError> {
    let sql = "UPDATE serving SET generation = $3 WHERE instance = $1 AND release = $2";
    let generation = i64::try_from(generation).unwrap_or(i64::MAX);
    client.execute(sql, &[&instance.0, &number_in(release), &generation]).await?;
    Ok(())
}

/// All instances that serve something, each with the generation of its plan.
pub async fn list_generations(client: &impl Client) -> Result<Vec<(InstanceId, u64)>, DbError> {
    let sql = "SELECT s.instance, s.generation FROM serving s JOIN instances i ON i.id = s.instance
               WHERE i.destroyed IS NULL";
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &[]).await?;
    rows.iter().map(|row| Ok((InstanceId(row.try_get(0)?), row.try_get::<_, i64>(1)?.unsigned_abs()))).collect()
}

/// The instances of a cluster that serve something, oldest first.
pub async fn list_serving(client: &impl Client, cluster: &ClusterName) -> Result<Vec<InstanceId>, DbError> {
    let sql = "SELECT s.instance FROM serving s JOIN instances i ON i.id = s.instance
               WHERE i.cluster = $1 AND i.destroyed IS NULL ORDER BY i.created";
    let rows = client.query(sql, &[&cluster.as_str()]).await?;
    rows.iter().map(|row| Ok(InstanceId(row.try_get(0)?))).collect()
}

/// Which of these hosts belong to other instances of the cluster.
pub async fn find_taken_hosts(
    client: &impl Client,
    cluster: &ClusterName,
    instance: InstanceId,
    hosts: &[String],
) -> Result<Vec<(String, String)>, DbError> {
    let sql = "SELECT h.host, a.name || ' (' || i.label || ')' FROM hosts h
               JOIN instances i ON i.id = h.instance JOIN apps a ON a.id = i.app
               WHERE h.cluster = $1 AND h.host = ANY($3) AND h.instance <> $2 ORDER BY 1";
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &[&cluster.as_str(), &instance.0, &hosts]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Gives hosts to an instance. Violates `hosts_pkey` when one has just been taken.
pub async fn claim_hosts(
    client: &impl Client,
    cluster: &ClusterName,
    instance: InstanceId,
    hosts: &[String],
) -> Result<(), DbError> {
    let sql = "INSERT INTO hosts (cluster, host, instance) SELECT $1, host, $2 FROM unnest($3::text[]) AS host
               WHERE NOT EXISTS (SELECT FROM hosts h WHERE h.cluster = $1 AND h.host = host AND h.instance = $2)";
    client.execute(sql, &[&cluster.as_str(), &instance.0, &hosts]).await?;
    Ok(())
}

/// Takes all hosts but these from an instance.
pub async fn release_hosts(client: &impl Client, instance: InstanceId, keep: &[String]) -> Result<(), DbError> {
    let sql = "DELETE FROM hosts WHERE instance = $1 AND host <> ALL($2)";
    client.execute(sql, &[&instance.0, &keep]).await?;
    Ok(())
}

/// Forgets what a destroyed instance served and which hosts it had.
pub async fn forget_instance(client: &impl Client, instance: InstanceId) -> Result<(), DbError> {
    client.execute("DELETE FROM serving WHERE instance = $1", &[&instance.0]).await?;
    release_hosts(client, instance, &[]).await
}

/// How long a cluster's instances keep releases.
#[derive(Debug, Clone)]
pub struct Retention {
    pub cluster: ClusterName,
    pub keep: KeepReleases,
}

/// What must stay on nodes: images of releases that serve, may be brought back, or are being brought. Of a cluster without
/// bounds all stay.
pub async fn list_kept_images(client: &impl Client, bounds: &[Retention]) -> Result<Vec<String>, DbError> {
    let sql =
        "WITH bounds AS (SELECT * FROM unnest($1::text[], $2::bigint[], $3::float8[]) AS b (cluster, count, age)),
               ranked AS (
                   SELECT r.image, r.number, r.last_served, i.cluster, s.release AS serving,
                       rank() OVER (PARTITION BY r.instance ORDER BY r.number DESC) AS place,
                       max(r.number) FILTER (WHERE r.number < s.release) OVER (PARTITION BY r.instance) AS before
                   FROM releases r JOIN instances i ON i.id = r.instance LEFT JOIN serving s ON s.instance = r.instance
                   WHERE r.state = 'served' AND i.destroyed IS NULL)
               SELECT image FROM ranked LEFT JOIN bounds b USING (cluster)
               WHERE b.count IS NULL OR number = serving OR number = before
                   OR place <= b.count AND coalesce(last_served, now()) > now() - make_interval(secs => b.age)
               UNION SELECT r.image FROM serving s JOIN releases r ON r.instance = s.instance AND r.number = s.release
               UNION SELECT d.image FROM deploys d WHERE d.status = 'running' AND d.image IS NOT NULL";
    let clusters: Vec<&str> = bounds.iter().map(|b| b.cluster.as_str()).collect();
    let counts: Vec<i64> = bounds.iter().map(|b| b.keep.count.into()).collect();
    let ages: Vec<f64> = bounds.iter().map(|b| b.keep.age.0.as_secs_f64()).collect();
    let rows = client.query(sql, &[&clusters, &counts, &ages]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Whether some release that has served has this image.
pub async fn is_image_kept(client: &impl Client, image: &str) -> Result<bool, DbError> {
    let sql = "SELECT EXISTS (SELECT FROM releases WHERE image = $1 AND state = 'served')";
    Ok(client.query_one(sql, &[&image]).await?.try_get(0)?)
}

/// The releases of an instance that can be brought back, the newest first.
pub async fn list_kept(client: &impl Client, instance: InstanceId) -> Result<Vec<ReleaseNumber>, DbError> {
    let sql = "SELECT number FROM releases WHERE instance = $1 AND state = 'served' ORDER BY number DESC";
    let rows = client.query(sql, &[&instance.0]).await?;
    rows.iter().map(|row| Ok(number_out(row.try_get(0)?))).collect()
}

/// Notes which releases' images are gone.
pub async fn mark_pruned(client: &impl Client, images: &[String]) -> Result<(), DbError> {
    let sql = "UPDATE releases SET state = 'pruned' WHERE image = ANY($1) AND state <> 'failed'";
    client.execute(sql, &[&images]).await?;
    Ok(())
}

/// The sources that some kept release or unfinished deploy refers to.
pub async fn list_kept_sources(client: &impl Client) -> Result<Vec<String>, DbError> {
    let sql = "SELECT r.source FROM releases r JOIN instances i ON i.id = r.instance
               WHERE r.state = 'served' AND i.destroyed IS NULL
               UNION SELECT source FROM deploys WHERE status IN ('waiting', 'running')";
    let rows = client.query(sql, &[]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
