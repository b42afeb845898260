"""What the store keeps of files and batches; two classes read and write it: Files and Batches."""

TABLES = (
    """CREATE TABLE IF NOT EXISTS files (
        place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL,
        purpose TEXT NOT NULL, bytes INTEGER NOT NULL, created REAL NOT NULL, expires REAL)""",
    "CREATE INDEX IF NOT EXISTS files_of_owner ON files (owner, place)",
    # bytes: of the answers that stand in lines; they become a file's when the batch ends.
    """CREATE TABLE IF NOT EXISTS batches (
        place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, status TEXT NOT NULL,
        endpoint TEXT NOT NULL, input_file TEXT NOT NULL, output_file TEXT, error_file TEXT, metadata TEXT,
        output_seconds INTEGER, errors TEXT, times TEXT NOT NULL, created REAL NOT NULL, expires REAL NOT NULL,
        ends_as TEXT, ended REAL, total INTEGER NOT NULL DEFAULT 0, completed INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, prompt_tokens INTEGER NOT NULL DEFAULT 0,
        cached_tokens INTEGER NOT NULL DEFAULT 0, drawn_tokens INTEGER NOT NULL DEFAULT 0,
        reasoning_tokens INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX IF NOT EXISTS batches_of_owner ON batches (owner, place)",
    "CREATE INDEX IF NOT EXISTS batches_going ON batches (place) WHERE ended IS NULL",
    # A line of the input: where it stands there, how often it was begun, and its answer as the output file has it.
    """CREATE TABLE IF NOT EXISTS lines (
        batch TEXT NOT NULL REFERENCES batches (id) ON DELETE CASCADE, number INTEGER NOT NULL, start INTEGER NOT NULL,
        size INTEGER NOT NULL, custom_id TEXT NOT NULL, model TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0,
        ok INTEGER, answer TEXT, PRIMARY KEY (batch, number))""",
    "CREATE INDEX IF NOT EXISTS lines_left ON lines (batch, number) WHERE answer IS NULL",
)

# The one row, if there is one, that says that a file is still read by a batch.
IN_USE = "SELECT 1 FROM batches WHERE input_file = ? AND ended IS NULL"
# Bytes of an owner's room that are taken; the owner is bound twice.
HELD = """SELECT (SELECT COALESCE(SUM(bytes), 0) FROM files WHERE owner = ?)
    + (SELECT COALESCE(SUM(bytes), 0) FROM batches WHERE owner = ?)"""
