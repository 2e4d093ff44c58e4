// The console as Node's drivers meet it, with their default options.
'use strict'

const { Client } = require('pg')
const postgres = require('postgres')

const [dsn] = process.argv.slice(2)

async function main() {
  const sql = postgres(dsn)
  // Fetches the types of arrays first.
  const configured = await sql`SHOW CONFIG`
  if (!configured.some((row) => row.key === 'pool.size')) throw new Error(JSON.stringify(configured))
  console.log('postgres.js', (await sql.unsafe('SHOW STATE')).length)
  await sql.end()

  const client = new Client({ connectionString: dsn })
  await client.connect()
  const named = await client.query({ name: 'pools', text: 'SHOW CONFIG' })
  if (named.rows.length !== configured.length) throw new Error(JSON.stringify(named.rows))
  console.log('node-postgres', (await client.query('SHOW STATE')).rows.length)
  await client.end()
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
