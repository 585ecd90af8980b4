//! What people were told of quotas.

use magrathea_core::names::InstanceId;
use magrathea_core::usage::Metric;

use super::{Client, DbError};

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
