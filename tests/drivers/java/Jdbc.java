import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.sql.*;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;
import org.postgresql.PGStatement;
import org.postgresql.copy.CopyManager;

/** PostgreSQL's JDBC driver: prepares on the server by itself, batches, fetches in parts. */
class Jdbc {
    static String url;
    static Properties login = new Properties();

    interface Part {
        void run(Connection connection) throws Exception;
    }

    static void say(String label, Object... values) {
        StringBuilder line = new StringBuilder(label + ":");
        for (Object value : values) {
            line.append(' ').append(value instanceof int[] numbers ? Arrays.toString(numbers) : value);
        }
        System.out.println(line);
    }

    static Connection connect(String... options) throws SQLException {
        Properties properties = new Properties();
        properties.putAll(login);
        for (int n = 0; n < options.length; n += 2) {
            properties.put(options[n], options[n + 1]);
        }
        return DriverManager.getConnection(url, properties);
    }

    static void refused(String label, Part part, Connection connection) throws Exception {
        try {
            part.run(connection);
            say(label, "no error");
        } catch (SQLException error) {
            say(label, error.getSQLState(), error.getMessage().lines().findFirst().orElse(""));
        }
    }

    static String rows(ResultSet found) throws SQLException {
        List<String> rows = new ArrayList<>();
        int columns = found.getMetaData().getColumnCount();
        while (found.next()) {
            List<String> row = new ArrayList<>();
            for (int column = 1; column <= columns; column++) {
                row.add(found.getString(column));
            }
            rows.add(String.join("|", row));
        }
        return rows.toString();
    }

    static String ask(Connection connection, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int n = 0; n < values.length; n++) {
                statement.setObject(n + 1, values[n]);
            }
            return rows(statement.executeQuery());
        }
    }

    static void statements(Connection connection) throws Exception {
        String select = "SELECT id, email, is_active, created_at FROM users WHERE id = ?";
        try (PreparedStatement statement = connection.prepareStatement(select)) {
            boolean onServer = false;
            for (long user = 1; user <= 40; user++) {
                statement.setLong(1, user);
                ResultSet found = statement.executeQuery();
                if (!found.next() || found.getLong(1) != user) {
                    throw new AssertionError("user " + user);
                }
                onServer |= statement.unwrap(PGStatement.class).isUseServerPrepare();
            }
            say("prepared on the server", onServer);
            ResultSetMetaData described = statement.getMetaData();
            say("described", described.getColumnName(2), described.getColumnTypeName(4));
            say("parameter", statement.getParameterMetaData().getParameterTypeName(1));
        }
        say("row", ask(connection, select, 7L));
        try (Statement statement = connection.createStatement()) {
            boolean rows = statement.execute("SELECT id FROM users WHERE id = 3; SELECT count(*) FROM jobs WHERE user_id = 3");
            say("several", rows(statement.getResultSet()), statement.getMoreResults(), rows(statement.getResultSet()));
            statement.executeUpdate("INSERT INTO notifications (user_id, message) VALUES (7, 'keyed')", Statement.RETURN_GENERATED_KEYS);
            say("generated", statement.getGeneratedKeys().next());
        }
        try (PreparedStatement insert = connection.prepareStatement(
                "INSERT INTO notifications (user_id, message) VALUES (?, ?)", new String[] {"message"})) {
            for (int n = 0; n < 300; n++) {
                insert.setLong(1, 7);
                insert.setString(2, "batch " + n);
                insert.addBatch();
            }
            say("batch", Arrays.stream(insert.executeBatch()).sum());
            insert.getGeneratedKeys().next();
            say("keys", insert.getGeneratedKeys().getString(1));
        }
        say("deleted", ask(connection, "WITH gone AS (DELETE FROM notifications WHERE user_id = ? AND (message LIKE 'batch%' OR message = 'keyed') RETURNING 1) SELECT count(*) FROM gone", 7L));
    }

    static void errors(Connection connection) throws Exception {
        refused("division", c -> ask(c, "SELECT 1/0 FROM users WHERE id = ?", 3L), connection);
        refused("syntax", c -> ask(c, "SELEC 1"), connection);
        refused("duplicate", c -> c.createStatement().executeUpdate("INSERT INTO users (id, email, name) VALUES (3, 'a', 'b')"), connection);
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO users (id, email, name) VALUES (?, 'a', 'b')")) {
            for (int n = 0; n < 3; n++) {
                insert.setLong(1, 7);
                insert.addBatch();
            }
            try {
                insert.executeBatch();
            } catch (BatchUpdateException error) {
                say("batch", error.getSQLState(), error.getUpdateCounts());
            }
        }
        connection.setAutoCommit(false);
        refused("failed", c -> ask(c, "SELECT 1/0 FROM users WHERE id = ?", 3L), connection);
        refused("aborted", c -> ask(c, "SELECT 1 FROM users WHERE id = ?", 3L), connection);
        connection.rollback();
        connection.setAutoCommit(true);
        say("usable", ask(connection, "SELECT email FROM users WHERE id = ?", 3L));
    }

    static void transactions(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        ask(connection, "SELECT 1 FROM users WHERE id = ?", 7L);
        say("isolation", ask(connection, "SHOW transaction_isolation"));
        connection.rollback();
        connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("UPDATE users SET name = 'outer' WHERE id = 7");
            Savepoint savepoint = connection.setSavepoint("here");
            statement.executeUpdate("UPDATE users SET name = 'inner' WHERE id = 7");
            connection.rollback(savepoint);
            say("outer", ask(connection, "SELECT name FROM users WHERE id = ?", 7L));
        }
        connection.rollback();
        // Rows in parts: a portal that is executed again and again.
        try (PreparedStatement select = connection.prepareStatement("SELECT id FROM job_executions WHERE user_id = ? ORDER BY id")) {
            select.setFetchSize(5);
            select.setLong(1, 5);
            ResultSet found = select.executeQuery();
            found.next();
            // Other statements between its parts.
            say("between", ask(connection, "SELECT email FROM users WHERE id = ?", 5L));
            say("parts", rows(found));
        }
        connection.commit();
        connection.setReadOnly(true);
        refused("read only", c -> c.createStatement().executeUpdate("UPDATE users SET name = name WHERE id = 7"), connection);
        connection.rollback();
        connection.setReadOnly(false);
        connection.setAutoCommit(true);
        say("after", ask(connection, "SELECT name FROM users WHERE id = ?", 7L));
    }

    static void cancels(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            refused("query timeout", c -> statement.execute("SELECT pg_sleep(60) FROM users WHERE id = 3"), connection);
            statement.setQueryTimeout(0);
            say("usable", rows(statement.executeQuery("SELECT email FROM users WHERE id = 3")));
        }
        try (Statement statement = connection.createStatement()) {
            var executor = Executors.newSingleThreadExecutor();
            Future<?> running = executor.submit(() -> {
                refused("cancelled", c -> statement.execute("SELECT pg_sleep(60) FROM users WHERE id = 3"), connection);
                return null;
            });
            // A cancel that comes before the statement has nothing to cancel.
            while (!running.isDone()) {
                Thread.sleep(50);
                statement.cancel();
            }
            running.get();
            executor.shutdown();
        }
    }

    static void together(Connection connection) throws Exception {
        var executor = Executors.newFixedThreadPool(8);
        List<Future<Long>> working = new ArrayList<>();
        for (int worker = 0; worker < 8; worker++) {
            long user = worker + 1;
            working.add(executor.submit(() -> {
                try (Connection mine = connect("prepareThreshold", "1");
                        PreparedStatement select = mine.prepareStatement("SELECT id FROM users WHERE id = ?");
                        PreparedStatement update = mine.prepareStatement("UPDATE users SET plan_id = plan_id WHERE id = ?")) {
                    mine.setAutoCommit(false);
                    long sum = 0;
                    for (int round = 0; round < 10; round++) {
                        update.setLong(1, user);
                        update.executeUpdate();
                        select.setLong(1, user);
                        ResultSet found = select.executeQuery();
                        found.next();
                        sum += found.getLong(1);
                        mine.commit();
                    }
                    return sum;
                }
            }));
        }
        long sum = 0;
        for (Future<Long> one : working) {
            sum += one.get();
        }
        executor.shutdown();
        say("together", sum);
    }

    static void modes(Connection connection) throws Exception {
        for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
            try (Connection mine = connect("preferQueryMode", mode, "prepareThreshold", "1", "binaryTransfer", "true")) {
                for (int round = 0; round < 3; round++) {
                    say(mode, ask(mine, "SELECT id, created_at FROM users WHERE id = ?", 7L));
                }
            }
        }
    }

    static void metadata(Connection connection) throws Exception {
        DatabaseMetaData meta = connection.getMetaData();
        say("product", meta.getDatabaseProductName(), meta.getDatabaseProductVersion(), meta.supportsBatchUpdates());
        try (ResultSet tables = meta.getTables(null, "public", "%", new String[] {"TABLE"})) {
            while (tables.next()) {
                say("table", tables.getString("TABLE_NAME"));
            }
        }
        try (ResultSet columns = meta.getColumns(null, "public", "jobs", "%")) {
            while (columns.next()) {
                say("column", columns.getString("COLUMN_NAME"), columns.getString("TYPE_NAME"), columns.getInt("NULLABLE"), columns.getString("COLUMN_DEF"));
            }
        }
        try (ResultSet keys = meta.getPrimaryKeys(null, "public", "jobs");
                ResultSet imported = meta.getImportedKeys(null, "public", "jobs");
                ResultSet indexes = meta.getIndexInfo(null, "public", "jobs", false, true)) {
            say("primary", keys.next(), keys.getString("COLUMN_NAME"));
            say("imported", imported.next(), imported.getString("PKTABLE_NAME"));
            while (indexes.next()) {
                say("index", indexes.getString("INDEX_NAME"), indexes.getString("COLUMN_NAME"));
            }
        }
    }

    static void copies(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.execute("CREATE TABLE copied (id serial, body text)");
            CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder lines = new StringBuilder();
            for (int n = 0; n < 5000; n++) {
                lines.append(n).append(",\"").append("y".repeat(n % 50)).append("\"\n");
            }
            say("in", copy.copyIn("COPY copied FROM STDIN CSV", new StringReader(lines.toString())));
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            say("out", copy.copyOut("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT CSV", out), out.size());
            refused("bad", c -> copyOf(c).copyIn("COPY copied FROM STDIN CSV", new StringReader("x,y\n")), connection);
            say("usable", rows(statement.executeQuery("SELECT count(*) FROM copied")));
            // One statement of many rows instead of many statements.
            try (Connection mine = connect("reWriteBatchedInserts", "true");
                    PreparedStatement insert = mine.prepareStatement("INSERT INTO copied (body) VALUES (?)")) {
                for (int n = 0; n < 500; n++) {
                    insert.setString(1, "row " + n);
                    insert.addBatch();
                }
                say("rewritten", insert.executeBatch().length);
            }
            statement.executeUpdate("INSERT INTO copied (body) VALUES ('a'), ('b')", new String[] {"id", "body"});
            say("generated", rows(statement.getGeneratedKeys()).startsWith("["));
            statement.execute("DROP TABLE copied");
        }
    }

    static CopyManager copyOf(Connection connection) throws SQLException {
        return connection.unwrap(PGConnection.class).getCopyAPI();
    }

    static void sessions(Connection connection) throws Exception {
        try (Connection mine = connect("ApplicationName", "matrix", "options", "-c geqo=off", "currentSchema", "pg_catalog,public")) {
            say("start-up", ask(mine, "SHOW application_name"), ask(mine, "SHOW geqo"), mine.getSchema());
            mine.setClientInfo("ApplicationName", "renamed");
            say("renamed", ask(mine, "SHOW application_name"), mine.getClientInfo("ApplicationName"));
            mine.setSchema("public");
            say("schema", ask(mine, "SHOW search_path"));
            try (Statement statement = mine.createStatement()) {
                statement.execute("CREATE TEMPORARY TABLE mine (n int)");
                statement.executeUpdate("INSERT INTO mine VALUES (1), (2)");
                say("temporary", rows(statement.executeQuery("SELECT sum(n) FROM mine")));
                ResultSet scrollable = mine.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY)
                        .executeQuery("SELECT n FROM mine ORDER BY n");
                scrollable.last();
                say("last", scrollable.getRow());
            }
            say("valid", mine.isValid(5));
        }
        try (Statement listen = connection.createStatement(); Connection other = connect()) {
            listen.execute("LISTEN matrix");
            other.createStatement().execute("NOTIFY matrix, 'heard'");
            var heard = connection.unwrap(PGConnection.class).getNotifications(20_000);
            say("heard", heard.length, heard[0].getName(), heard[0].getParameter());
        }
    }

    /** A statement that was prepared before the table changed: the driver's autosave and re-prepare. */
    static void altered(Connection connection) throws Exception {
        try (Connection mine = connect("prepareThreshold", "1"); Statement statement = mine.createStatement()) {
            statement.execute("CREATE TABLE changing (a int)");
            statement.execute("INSERT INTO changing VALUES (1)");
            try (PreparedStatement select = mine.prepareStatement("SELECT * FROM changing")) {
                say("before", rows(select.executeQuery()), rows(select.executeQuery()));
                statement.execute("ALTER TABLE changing ADD COLUMN b int DEFAULT 2");
                say("after", rows(select.executeQuery()), rows(select.executeQuery()));
            }
            statement.execute("DROP TABLE changing");
        }
    }

    public static void main(String[] arguments) throws Exception {
        var dsn = java.net.URI.create(arguments[0]);
        var user = dsn.getUserInfo().split(":");
        url = "jdbc:postgresql://" + dsn.getHost() + ":" + dsn.getPort() + dsn.getPath();
        login.put("user", user[0]);
        login.put("password", user[1]);
        List<Part> parts = arguments[1].equals("keyed")
                ? List.of(Jdbc::statements, Jdbc::errors, Jdbc::transactions, Jdbc::cancels, Jdbc::together, Jdbc::modes)
                : List.of(Jdbc::metadata, Jdbc::copies, Jdbc::sessions, Jdbc::altered);
        try (Connection connection = connect()) {
            for (int n = 0; n < parts.size(); n++) {
                say("##", n);
                parts.get(n).run(connection);
            }
        }
    }
}
