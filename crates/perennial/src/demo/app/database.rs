//! A SQLite database that stays open while it is backed up, with rows in its write-ahead log.

use std::path::Path;

use rusqlite::Connection;

use super::{App, Edit, noise};
use crate::demo::error::{DemoError, database, io};
use crate::output;

const FILE: &str = "orders.db";
const ROWS_FIRST: u64 = 20_000;
const ROWS_MORE: u64 = 500;
const CUSTOMERS: u64 = 977;
/// Bytes of the part of a row that does not compress.
const BLOB_BYTES: usize = 256;

/// The app that has it open.
#[derive(Default)]
pub struct Database {
    connection: Option<Connection>,
    row_count: u64,
}

impl Database {
    fn append(&mut self, count: u64) -> Result<(), DemoError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let transaction = connection.transaction().map_err(database("begin a transaction"))?;
        {
            let mut insert = transaction
                .prepare("INSERT INTO orders (customer, note, proof) VALUES (?1, ?2, ?3)")
                .map_err(database("prepare an insert"))?;
            let mut blob = [0; BLOB_BYTES];
            for row in self.row_count..self.row_count + count {
                let mut bytes = noise(&format!("row {row}"));
                bytes.fill(&mut blob);
                let customer = i64::try_from(row % CUSTOMERS).unwrap_or_default();
                let note = format!("order {row} of customer {customer}, to be delivered soon");
                insert.execute((customer, note, &blob[..])).map_err(database("insert a row"))?;
            }
        }
        transaction.commit().map_err(database("commit"))?;
        self.row_count += count;
        Ok(())
    }
}

impl App for Database {
    fn name(&self) -> &'static str {
        "database"
    }

    fn fill(&mut self, volume: &Path) -> Result<(), DemoError> {
        let connection = Connection::open(volume.join(FILE)).map_err(database("open a new database"))?;
        // Without this the log's index is a file that is written through memory, which leaves its time as it was: to a
        // backup such a file is unchanged. SQLite makes it anew when it opens the database, so nothing would be lost; but
        // it would not be equal.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(database("lock the database"))?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(database("switch to write-ahead logging"))?;
        // The log is emptied by nobody: what is in it at the backup must be there after the restore.
        connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(database("keep the log"))?;
        connection
            .execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, note TEXT, proof BLOB)", ())
            .map_err(database("create a table"))?;
        self.connection = Some(connection);
        self.append(ROWS_FIRST)?;
        let Some(connection) = &self.connection else { return Ok(()) };
        let checkpoint = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()));
        checkpoint.map_err(database("empty the log"))
    }

    fn edit(&mut self, volume: &Path) -> Result<Edit, DemoError> {
        self.append(ROWS_MORE)?;
        let log = volume.join(format!("{FILE}-wal"));
        let log_bytes = std::fs::metadata(&log).map_err(io("look at the database's log"))?.len();
        let what = format!(
            "{} rows more, {} in all; still open, {} of them only in its log",
            output::count(ROWS_MORE),
            output::count(self.row_count),
            output::count(ROWS_MORE)
        );
        Ok(Edit { what, changed_bytes: Some(log_bytes) })
    }

    fn stop(&mut self) {
        self.connection = None;
    }

    fn accept(&mut self, volume: &Path) -> Result<Option<String>, DemoError> {
        let connection = Connection::open(volume.join(FILE)).map_err(database("open the restored database"))?;
        let verdict: String = connection
            .query_row("PRAGMA integrity_check", (), |row| row.get(0))
            .map_err(database("check the restored database"))?;
        let rows: i64 = connection
            .query_row("SELECT count(*) FROM orders", (), |row| row.get(0))
            .map_err(database("count the restored rows"))?;
        let found = format!("integrity_check says {verdict}, {} rows", output::count(rows.unsigned_abs()));
        let expected = format!("integrity_check says ok, {} rows", output::count(self.row_count));
        if found != expected {
            return Err(DemoError::Unexpected { step: "open the restored database".to_owned(), expected, found });
        }
        Ok(Some(format!("SQLite opens it: {found}, none lost")))
    }
}
