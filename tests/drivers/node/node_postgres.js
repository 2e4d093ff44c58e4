// node-postgres: pool, parameters, named statements, cursors, streams, COPY, LISTEN.
'use strict'

const { once } = require('node:events')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const { Client, Pool } = require('pg')
const Cursor = require('pg-cursor')
const QueryStream = require('pg-query-stream')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')

const [dsn, scope] = process.argv.slice(2)
const say = (label, ...values) => console.log(`${label}:`, ...values.map((value) => JSON.stringify(value)))

async function refused(label, promise) {
  try {
    const result = await promise
    say(label, 'no error', result.rows)
  } catch (error) {
    say(label, error.code, error.message, error.constraint)
  }
}

async function connected(run, options = {}) {
  const client = new Client({ connectionString: dsn, ...options })
  await client.connect()
  try {
    await run(client)
  } finally {
    await client.end()
  }
}

async function statements(client) {
  for (const user of [3, 7, 12]) {
    const found = await client.query('SELECT id, email, is_active, created_at FROM users WHERE id = $1', [user])
    say('row', found.rows, found.command, found.rowCount, found.fields.map((field) => field.dataTypeID))
  }
  const array = await client.query({ text: 'SELECT id FROM jobs WHERE user_id = $1 ORDER BY id', values: ['7'], rowMode: 'array' })
  say('array', array.rows)
  // Named: parsed once a connection, whatever connection it meets.
  for (let user = 1; user <= 30; user++) {
    const named = { name: 'user by id', text: 'SELECT id FROM users WHERE id = $1', values: [user] }
    const found = await client.query(named)
    if (found.rows[0].id !== String(user)) throw new Error(`user ${user}: ${JSON.stringify(found.rows)}`)
  }
  // Several under way at once, of several owners.
  const together = await Promise.all(
    Array.from({ length: 20 }, (_, n) => client.query('SELECT id FROM users WHERE id = $1', [n + 1])),
  )
  say('together', together.map((found) => found.rows[0].id))
  const several = await client.query('SELECT id FROM users WHERE id = 3; SELECT count(*) FROM jobs WHERE user_id = 3')
  say('several', several.map((result) => result.rows))
  say('binary', (await client.query({ text: 'SELECT 5 + plan_id * 0 AS n FROM users WHERE id = $1', values: [3], binary: true })).rows)
}

async function errors(client) {
  await refused('division', client.query('SELECT 1/0 FROM users WHERE id = $1', [3]))
  await refused('syntax', client.query('SELEC 1'))
  await refused('duplicate', client.query("INSERT INTO users (id, email, name) VALUES ($1, 'a', 'b')", [3]))
  await refused('renamed', client.query({ name: 'user by id', text: 'SELECT 1' }))
  await client.query('BEGIN')
  await refused('in transaction', client.query('SELECT 1/0 FROM users WHERE id = 3'))
  await refused('aborted', client.query('SELECT id FROM users WHERE id = 3'))
  say('commit', (await client.query('COMMIT')).command)
  // The one in the middle fails alone.
  const settled = await Promise.allSettled([
    client.query('SELECT id FROM users WHERE id = $1', [3]),
    client.query('SELECT 1/0 FROM users WHERE id = $1', [7]),
    client.query('SELECT id FROM users WHERE id = $1', [12]),
  ])
  say('settled', settled.map((one) => one.value?.rows ?? one.reason.code))
}

async function transactions(client) {
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
  await client.query("UPDATE users SET name = 'x' WHERE id = $1", [7])
  await client.query('SAVEPOINT a')
  await client.query("UPDATE users SET name = 'y' WHERE id = $1", [7])
  await client.query('ROLLBACK TO a')
  say('inside', (await client.query('SELECT name FROM users WHERE id = 7')).rows)
  await client.query('ROLLBACK')
  say('after', (await client.query('SELECT name FROM users WHERE id = 7')).rows)
  const inserted = await client.query("INSERT INTO notifications (user_id, message) VALUES ($1, $2), ($1, $3) RETURNING message", [7, 'a', 'b'])
  say('inserted', inserted.rows)
  say('deleted', (await client.query("DELETE FROM notifications WHERE user_id = $1 AND message = ANY($2)", [7, ['a', 'b']])).rowCount)
}

async function cursors(client) {
  await client.query('BEGIN')
  const cursor = client.query(new Cursor('SELECT id FROM job_executions WHERE user_id = $1 ORDER BY id', [5]))
  const parts = []
  for (let part; (part = await cursor.read(5)).length; ) parts.push(part.map((row) => row.id))
  say('cursor', parts)
  await cursor.close()
  await client.query('COMMIT')
  const streamed = []
  const stream = client.query(new QueryStream('SELECT id FROM job_executions WHERE user_id = $1 ORDER BY id', [5], { batchSize: 4 }))
  for await (const row of stream) streamed.push(row.id)
  say('stream', streamed)
  // Given up half-way, outside a transaction.
  const abandoned = client.query(new Cursor('SELECT id FROM job_executions WHERE user_id = $1', [5]))
  say('abandoned', (await abandoned.read(2)).length)
  await abandoned.close()
  say('usable', (await client.query('SELECT id FROM users WHERE id = 5')).rows)
}

async function pool() {
  const connections = new Pool({ connectionString: dsn, max: 10 })
  const users = Array.from({ length: 100 }, (_, n) => 1 + (n % 40))
  const found = await Promise.all(users.map((user) => connections.query('SELECT id FROM users WHERE id = $1', [user])))
  say('pool', found.every((one, n) => one.rows[0].id === String(users[n])), connections.totalCount)
  const client = await connections.connect()
  await client.query('BEGIN')
  await client.query('UPDATE users SET plan_id = plan_id WHERE id = 7')
  await client.query('COMMIT')
  client.release()
  await connections.end()
}

async function cancelled() {
  await connected(async (client) => {
    await refused('statement_timeout', client.query('SELECT pg_sleep(60) FROM users WHERE id = 3'))
    say('usable', (await client.query('SELECT id FROM users WHERE id = 3')).rows)
  }, { statement_timeout: 100 })
}

async function copies(client) {
  await client.query('CREATE TABLE copied (id int, body text)')
  const rows = Array.from({ length: 20000 }, (_, n) => `${n}\t${'z'.repeat(n % 100)}\n`)
  const sink = client.query(copyFrom('COPY copied FROM STDIN'))
  await pipeline(Readable.from(rows), sink)
  say('in', sink.rowCount)
  const source = client.query(copyTo('COPY (SELECT * FROM copied ORDER BY id) TO STDOUT'))
  let bytes = 0
  for await (const block of source) bytes += block.length
  say('out', bytes === rows.join('').length, source.rowCount)
  const bad = client.query(copyFrom('COPY copied FROM STDIN'))
  await refused('bad', pipeline(Readable.from(['no number\tx\n']), bad))
  say('usable', (await client.query('SELECT count(*) FROM copied')).rows)
  await client.query('DROP TABLE copied')
}

async function listening(client) {
  await client.query('LISTEN matrix')
  const heard = []
  const enough = new Promise((resolve) => {
    client.on('notification', (message) => heard.push([message.channel, message.payload]) === 2 && resolve())
  })
  await connected(async (other) => {
    await other.query("NOTIFY matrix, 'one'")
    await other.query("SELECT pg_notify('matrix', $1)", ['two'])
  })
  await enough
  say('heard', heard)
  const notice = once(client, 'notice')
  await client.query("DO $$ BEGIN RAISE NOTICE 'noticed'; END $$")
  say('notice', (await notice)[0].message)
}

async function settings(client) {
  await refused('type', client.query('SELECT * FROM users WHERE id = $1', ['three']))
  await refused('too few', client.query('SELECT id FROM users WHERE id = $1', []))
  await connected(async (client) => {
    say('start-up', (await client.query('SHOW application_name')).rows, (await client.query('SHOW geqo')).rows)
    await client.query("SET TIME ZONE 'Asia/Tokyo'")
    await client.query('CREATE TEMPORARY TABLE mine (n int)')
    await client.query('INSERT INTO mine VALUES (1)')
    say('session', (await client.query("SELECT n, '2024-01-01'::timestamptz::text AS t FROM mine")).rows)
  }, { application_name: 'matrix', options: '-c geqo=off' })
}

async function main() {
  const parts = scope === 'keyed' ? [statements, errors, transactions, cursors, pool, cancelled] : [copies, listening, settings]
  await connected(async (client) => {
    for (const part of parts) {
      say('##', part.name)
      await part(client)
    }
  })
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
