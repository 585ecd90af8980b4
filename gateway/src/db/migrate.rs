//! Forward-only migrations. Files are numbered; one that was applied must never change again.

use anyhow::{Context, bail};
use magrathea_core::plan::hash_text;

use super::{Connection, Db};

/// One file of `migrations/`.
struct Migration {
    name: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($($name:literal,)*) => {
        &[$(Migration { name: $name, sql: include_str!(concat!("migrations/", $name, ".sql")) },)*]
    };
}

/// In the order of application. 0xxx: the foundation; 1xxx: deploys, releases and plans; 2xxx: people and
/// the doors they use.
const MIGRATIONS: &[Migration] = migrations! {
    "0001_foundation",
    "1000_releases",
    "2000_people",
    "2010_config_history",
    "2020_sessions",
    "2200_runs",
    "2300_logs",
    "2400_config_versions",
    "2500_previews",
    "2510_tasks",
    "2520_retention",
    "2550_scales",
    "2600_canary",
    "2610_promises",
    "2700_scaling",
    "2800_usage",
    "2820_quota_marks",
    "2850_billing",
    "2870_traffic_quotas",
    "2880_node_trouble",
    "2890_usage_levels_by_node",
    "2900_pinned_memory",
};

/// Only one gateway migrates at a time; the number is arbitrary.
const LOCK: i64 = 0x6d61_6772;

/// Brings the schema up to date, in one transaction per migration. Refuses a database that a newer gateway has
/// migrated, and one whose history differs from these files.
pub async fn migrate(db: &Db) -> anyhow::Result<()> {
    let mut conn = db.conn().await?;
    conn.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    let result = migrate_locked(&mut conn).await;
    conn.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
    result
}

async fn migrate_locked(conn: &mut Connection) -> anyhow::Result<()> {
    if conn.query_opt("SELECT WHERE to_regclass('schema_migrations') IS NULL", &[]).await?.is_some() {
        conn.batch_execute(
            "CREATE TABLE schema_migrations (
                 name text PRIMARY KEY, checksum text NOT NULL, applied timestamptz NOT NULL DEFAULT now())",
        )
        .await?;
    }
    let rows = conn.query("SELECT name, checksum FROM schema_migrations", &[]).await?;
    for row in &rows {
        let (name, checksum): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        match MIGRATIONS.iter().find(|m| m.name == name) {
            None => bail!("the database was migrated by a newer gateway (it knows {name}); run that one"),
            Some(m) if hash_text(m.sql) != checksum => {
                bail!("migration {name} differs from the one that the database went through")
            }
            Some(_) => {}
        }
    }
    for migration in MIGRATIONS {
        let applied = rows.iter().any(|row| row.try_get::<_, &str>(0).is_ok_and(|name| name == migration.name));
        if !applied {
            apply(conn, migration).await.with_context(|| format!("migration {} failed", migration.name))?;
            tracing::info!(migration = migration.name, "migrated");
        }
    }
    Ok(())
}

async fn apply(conn: &mut Connection, migration: &Migration) -> anyhow::Result<()> {
    let tx = conn.transaction().await?;
    tx.batch_execute(migration.sql).await?;
    tx.execute(
        "INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)",
        &[&migration.name, &hash_text(migration.sql)],
    )
    .await?;
    Ok(tx.commit().await?)
}

/// Changes whenever a migration is added: names the tests' template database.
#[cfg(test)]
pub fn fingerprint() -> String {
    let all: String = MIGRATIONS.iter().map(|m| m.sql).collect();
    hash_text(&all).chars().take(12).collect()
}
