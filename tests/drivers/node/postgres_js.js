// postgres.js: pipelines by itself, prepares by default, types fetched when it connects.
'use strict'

const stream = require('stream')
const postgres = require('postgres')

const [dsn, scope] = process.argv.slice(2)
const say = (label, ...values) => console.log(`${label}:`, ...values.map((value) => JSON.stringify(value)))

async function refused(label, promise) {
  try {
    say(label, 'no error', await promise)
  } catch (error) {
    say(label, error.code, error.message, error.constraint_name)
  }
}

async function keyed(sql) {
  for (const user of [3, 7, 12]) say('row', await sql`SELECT id, email, created_at FROM users WHERE id = ${user}`)
  const users = Array.from({ length: 100 }, (_, n) => 1 + (n % 40))
  const found = await Promise.all(users.map((user) => sql`SELECT id FROM users WHERE id = ${user}`))
  say('pipelined', found.every(([row], n) => row.id === String(users[n])))
  await refused('division', sql`SELECT 1/0 FROM users WHERE id = ${3}`)
  await refused('duplicate', sql`INSERT INTO users ${sql({ id: 3, email: 'a', name: 'b' })}`)
  const rows = [1, 2, 3].map((n) => ({ user_id: 7, message: `js ${n}` }))
  say('inserted', await sql`INSERT INTO notifications ${sql(rows)} RETURNING message`)
  await refused(
    'rolled back',
    sql.begin(async (sql) => {
      say('deleted', (await sql`DELETE FROM notifications WHERE user_id = ${7} AND message LIKE 'js%'`).count)
      await sql.savepoint(async (sql) => sql`SELECT 1/0`).catch((error) => say('savepoint', error.code))
      say('left', (await sql`SELECT id FROM notifications WHERE user_id = ${7}`).count)
      throw Object.assign(new Error('thrown'), { code: 'own' })
    }),
  )
  say('deleted', (await sql`DELETE FROM notifications WHERE user_id = ${7} AND message LIKE 'js%'`).count)
  const parts = []
  await sql`SELECT id FROM job_executions WHERE user_id = ${5} ORDER BY id`.cursor(5, (rows) => {
    parts.push(rows.map((row) => row.id))
  })
  say('cursor', parts)
  say('simple', await sql`SELECT 1 AS a FROM users WHERE id = 3; SELECT 2 AS b FROM jobs WHERE user_id = 3 LIMIT 1`.simple())
  const query = sql`SELECT pg_sleep(60) FROM users WHERE id = ${3}`.execute()
  // A cancel that comes before the statement has nothing to cancel.
  const again = setInterval(() => query.cancel(), 100)
  await refused('cancelled', query)
  clearInterval(again)
}

async function whole(sql) {
  await sql`CREATE TABLE copied (id int, tags text[], body jsonb)`
  const sink = await sql`COPY copied (id) FROM STDIN`.writable()
  await new Promise((resolve, reject) => {
    sink.on('error', reject).on('finish', resolve)
    for (let n = 0; n < 5000; n++) sink.write(`${n}\n`)
    sink.end()
  })
  // postgres.js never resumes a socket that it pauses for a COPY's reader in the very read that brings
  // the COPY's end (its issue 499), with or without pgring: so the reader has room for all of it.
  stream.setDefaultHighWaterMark(false, 1 << 20)
  let bytes = 0
  for await (const block of await sql`COPY copied TO STDOUT`.readable()) bytes += block.length
  say('copied', (await sql`SELECT count(*) FROM copied`)[0], bytes)
  await sql`INSERT INTO copied VALUES (1, ${['a', 'b']}, ${sql.json({ c: 1 })})`
  say('types', await sql`SELECT * FROM copied WHERE body IS NOT NULL`)
  await sql`DROP TABLE copied`
  const heard = []
  await new Promise(async (resolve) => {
    await sql.listen('matrix', (payload) => heard.push(payload) === 2 && resolve())
    await sql.notify('matrix', 'one')
    await sql.notify('matrix', 'two')
  })
  say('heard', heard)
}

async function main() {
  const sql = postgres(dsn, { max: 6, onnotice: () => {} })
  await (scope === 'keyed' ? keyed(sql) : whole(sql))
  await sql.end()
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
