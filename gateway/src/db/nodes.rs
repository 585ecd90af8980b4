//! Nodes: their one-time tokens, their certificates, and which of their observations are stored.

use magrathea_core::names::{ClusterName, NodeName};

use super::{Client, DbError};
use crate::hub::NodeRef;

/// How long a one-time token is good, in seconds.
pub const TOKEN_SECONDS: u32 = 3600;

/// What is known of a node that was enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolledNode {
    pub node: NodeRef,
    pub certificate_serial: String,
    pub last_seen: Option<jiff::Timestamp>,
    /// The last observation that was stored.
    pub acknowledged: u64,
}

fn node_ref(cluster: &str, node: &str) -> Result<NodeRef, DbError> {
    let cluster: ClusterName = cluster.parse().map_err(|e| DbError::value("nodes.cluster", e))?;
    let node: NodeName = node.parse().map_err(|e| DbError::value("nodes.name", e))?;
    Ok(NodeRef { cluster, node })
}

/// Stores a one-time token's hash. Tokens that ran out long ago are forgotten on the way.
pub async fn insert_node_token(client: &impl Client, node: &NodeRef, hash: &[u8; 32]) -> Result<(), DbError> {
    client.execute("DELETE FROM node_tokens WHERE expires < now() - interval '1 day'", &[]).await?;
    client
        .execute(
            "INSERT INTO node_tokens (hash, cluster, node, expires)
             VALUES ($1, $2, $3, now() + make_interval(secs => $4))",
            &[&hash.as_slice(), &node.cluster.as_str(), &node.node.as_str(), &f64::from(TOKEN_SECONDS)],
        )
        .await?;
    Ok(())
}

/// Uses up a one-time token; none when it is unknown, used or expired.
pub async fn use_node_token(client: &impl Client, hash: &[u8; 32]) -> Result<Option<NodeRef>, DbError> {
    let row = client
        .query_opt(
            "UPDATE node_tokens SET used = now() WHERE hash = $1 AND used IS NULL AND expires > now()
             RETURNING cluster, node",
            &[&hash.as_slice()],
        )
        .await?;
    row.map(|row| node_ref(row.try_get(0)?, row.try_get(1)?)).transpose()
}

/// Makes a certificate the only one that the node is accepted with. The node's count of observations begins anew.
pub async fn enrol_node(client: &impl Client, node: &NodeRef, serial: &str) -> Result<(), DbError> {
    client
        .execute(
            "INSERT INTO nodes (cluster, name, certificate_serial) VALUES ($1, $2, $3)
             ON CONFLICT (cluster, name) DO UPDATE
             SET certificate_serial = excluded.certificate_serial, enrolled = now(), acknowledged = 0",
            &[&node.cluster.as_str(), &node.node.as_str(), &serial],
        )
        .await?;
    Ok(())
}

pub async fn load_node(client: &impl Client, node: &NodeRef) -> Result<Option<EnrolledNode>, DbError> {
    Ok(list_nodes(client).await?.into_iter().find(|n| n.node == *node))
}

/// All enrolled nodes, by cluster and name.
pub async fn list_nodes(client: &impl Client) -> Result<Vec<EnrolledNode>, DbError> {
    let rows = client
        .query(
            "SELECT cluster, name, certificate_serial, last_seen, acknowledged FROM nodes ORDER BY cluster, name",
            &[],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(EnrolledNode {
                node: node_ref(row.try_get(0)?, row.try_get(1)?)?,
                certificate_serial: row.try_get(2)?,
                last_seen: row.try_get(3)?,
                acknowledged: row.try_get::<_, i64>(4)?.try_into().unwrap_or(0),
            })
        })
        .collect()
}

/// Notes that the node was there just now.
pub async fn touch_node(client: &impl Client, node: &NodeRef) -> Result<(), DbError> {
    client
        .execute(
            "UPDATE nodes SET last_seen = now() WHERE cluster = $1 AND name = $2",
            &[&node.cluster.as_str(), &node.node.as_str()],
        )
        .await?;
    Ok(())
}

/// Stores what is wrong on a node; false when it is known.
pub async fn set_trouble(client: &impl Client, node: &NodeRef, trouble: Option<&str>) -> Result<bool, DbError> {
    let changed = client
        .execute(
            "UPDATE nodes SET trouble = $3 WHERE cluster = $1 AND name = $2 AND trouble IS DISTINCT FROM $3",
            &[&node.cluster.as_str(), &node.node.as_str(), &trouble],
        )
        .await?;
    Ok(changed > 0)
}

/// Notes that an observation is stored; false when it was already, so that it is not stored twice. Belongs into the
/// transaction that stores it.
pub async fn acknowledge(client: &impl Client, node: &NodeRef, sequence: u64) -> Result<bool, DbError> {
    let sequence = i64::try_from(sequence).map_err(|e| DbError::value("nodes.acknowledged", e))?;
    let changed = client
        .execute(
            "UPDATE nodes SET acknowledged = $3 WHERE cluster = $1 AND name = $2 AND acknowledged < $3",
            &[&node.cluster.as_str(), &node.node.as_str(), &sequence],
        )
        .await?;
    Ok(changed > 0)
}
