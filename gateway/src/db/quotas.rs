//! Quotas of traffic, and what people were told of all quotas.

use jiff::Timestamp;
use magrathea_core::names::{AppId, InstanceId, OrganisationId};
use magrathea_core::usage::{Metric, Then};
use uuid::Uuid;

use super::{Client, DbError, Row};

/// Whose traffic counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    App(AppId),
    /// All apps of it.
    Organisation(OrganisationId),
}

impl Whose {
    /// Whether what an app of an organisation takes counts.
    pub fn covers(self, organisation: OrganisationId, app: AppId) -> bool {
        match self {
            Whose::App(of) => of == app,
            Whose::Organisation(of) => of == organisation,
        }
    }

    /// As PostgreSQL has it: an app or an organisation.
    fn columns(self) -> (Option<Uuid>, Option<Uuid>) {
        match self {
            Whose::App(app) => (Some(app.0), None),
            Whose::Organisation(organisation) => (None, Some(organisation.0)),
        }
    }
}

/// How much may be taken in a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficQuota {
    pub id: Uuid,
    pub whose: Whose,
    /// The organisation that it concerns; for an app, the app's.
    pub organisation: OrganisationId,
    pub organisation_name: String,
    pub app_name: Option<String>,
    pub bytes: u64,
    pub then: Then,
    pub set_by: String,
    /// The percentage that people were told of last, and when its month began.
    pub mark: u8,
    pub month: Option<Timestamp>,
}

/// All that are set on what is not destroyed.
pub async fn list_traffic_quotas(client: &impl Client) -> Result<Vec<TrafficQuota>, DbError> {
    let sql = "SELECT q.id, q.app, o.id, o.name, a.name, q.bytes, q.action, q.set_by, q.mark, q.month
               FROM traffic_quotas q
               LEFT JOIN apps a ON a.id = q.app
               JOIN organisations o ON o.id = COALESCE(q.organisation, a.organisation)
               WHERE a.destroyed IS NULL ORDER BY o.name, a.name NULLS FIRST";
    let statement = client.prepare_cached(sql).await?;
    client.query(&statement, &[]).await?.iter().map(quota).collect()
}

fn quota(row: &Row) -> Result<TrafficQuota, DbError> {
    let organisation = OrganisationId(row.try_get(2)?);
    let app = row.try_get::<_, Option<Uuid>>(1)?.map(AppId);
    Ok(TrafficQuota {
        id: row.try_get(0)?,
        whose: app.map_or(Whose::Organisation(organisation), Whose::App),
        organisation,
        organisation_name: row.try_get(3)?,
        app_name: row.try_get(4)?,
        bytes: row.try_get::<_, i64>(5)?.unsigned_abs(),
        then: row.try_get::<_, &str>(6)?.parse().map_err(|e: String| DbError::value("traffic_quotas.action", e))?,
        set_by: row.try_get(7)?,
        mark: u8::try_from(row.try_get::<_, i16>(8)?).unwrap_or_default(),
        month: row.try_get(9)?,
    })
}

/// Sets it, or another one in its place; false when it was so already.
pub async fn set_traffic_quota(
    client: &impl Client,
    whose: Whose,
    (bytes, then): (u64, Then),
    actor: &str,
) -> Result<bool, DbError> {
    let (app, organisation) = whose.columns();
    let column = if app.is_some() { "app" } else { "organisation" };
    let sql = format!(
        "INSERT INTO traffic_quotas AS q (id, app, organisation, bytes, action, set_by) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT ({column}) DO UPDATE SET bytes = excluded.bytes, action = excluded.action,
             set_by = excluded.set_by, created = now()
             WHERE (q.bytes, q.action) <> (excluded.bytes, excluded.action)"
    );
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&Uuid::now_v7(), &app, &organisation, &bytes, &then.as_str(), &actor];
    Ok(client.execute(&sql, &parameters).await? > 0)
}

/// Says whether there was one.
pub async fn remove_traffic_quota(client: &impl Client, whose: Whose) -> Result<bool, DbError> {
    let (app, organisation) = whose.columns();
    let sql = "DELETE FROM traffic_quotas WHERE app = $1 OR organisation = $2";
    Ok(client.execute(sql, &[&app, &organisation]).await? > 0)
}

/// Notes what people are told; false when somebody else did meanwhile, who tells it.
pub async fn mark_traffic(
    client: &impl Client,
    quota: &TrafficQuota,
    (mark, month): (u8, Timestamp),
) -> Result<bool, DbError> {
    let sql = "UPDATE traffic_quotas SET mark = $2, month = $3 WHERE id = $1 AND mark = $4
                   AND month IS NOT DISTINCT FROM $5";
    let (mark, held) = (i16::from(mark), i16::from(quota.mark));
    Ok(client.execute(sql, &[&quota.id, &mark, &month, &held, &quota.month]).await? == 1)
}

/// Bytes that visitors of an app sent and were sent since an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppTraffic {
    pub app: AppId,
    pub organisation: OrganisationId,
    pub bytes: u64,
}

/// By app, where there was any, of all apps that count for one of these; of destroyed ones, too, which count for their organisation.
pub async fn sum_traffic(
    client: &impl Client,
    of: &[TrafficQuota],
    since: Timestamp,
) -> Result<Vec<AppTraffic>, DbError> {
    let (apps, organisations): (Vec<_>, Vec<_>) = of.iter().map(|quota| quota.whose.columns()).unzip();
    let apps: Vec<Uuid> = apps.into_iter().flatten().collect();
    let organisations: Vec<Uuid> = organisations.into_iter().flatten().collect();
    // Two sums of one column each do not overflow, whatever nodes told.
    let sql = "SELECT a.id, a.organisation, least(sum(u.received) + sum(u.sent), 9223372036854775807)::bigint
               FROM usage_hours u JOIN instances i ON i.id = u.instance JOIN apps a ON a.id = i.app
               WHERE u.hour >= $1 AND (a.id = ANY($2) OR a.organisation = ANY($3)) GROUP BY 1, 2";
    let statement = client.prepare_cached(sql).await?;
    let of = |row: &Row| {
        let bytes: i64 = row.try_get(2)?;
        Ok(AppTraffic {
            app: AppId(row.try_get(0)?),
            organisation: OrganisationId(row.try_get(1)?),
            bytes: bytes.unsigned_abs(),
        })
    };
    client.query(&statement, &[&since, &apps, &organisations]).await?.iter().map(of).collect()
}

/// The percentage that people were told of last; 0 for none.
pub async fn load_mark(client: &impl Client, instance: InstanceId, metric: Metric) -> Result<u8, DbError> {
    let sql = "SELECT mark FROM quota_marks WHERE instance = $1 AND metric = $2";
    let statement = client.prepare_cached(sql).await?;
    let Some(row) = client.query_opt(&statement, &[&instance.0, &metric.as_str()]).await? else { return Ok(0) };
    Ok(u8::try_from(row.try_get::<_, i16>(0)?).unwrap_or_default())
}

/// Notes another one; false when somebody else did meanwhile, who tells it.
pub async fn set_mark(
    client: &impl Client,
    instance: InstanceId,
    metric: Metric,
    (held, mark): (u8, u8),
) -> Result<bool, DbError> {
    let sql = "INSERT INTO quota_marks AS q (instance, metric, mark) VALUES ($1, $2, $3)
               ON CONFLICT (instance, metric) DO UPDATE SET mark = excluded.mark, since = now() WHERE q.mark = $4";
    let set = client.execute(sql, &[&instance.0, &metric.as_str(), &i16::from(mark), &i16::from(held)]).await?;
    Ok(set == 1)
}
