// What Xen Orchestra does with a VM, through the client that it does it with.
//
//   node xo.mjs '{"url": "http://root:testbed@127.0.0.1:80", "transport": "json-rpc", "vm": UUID}'
//
// Connects, watches all objects, snapshots the VM, changes it and its disk, reverts it, updates a
// map, copies a disk over HTTP, destroys the snapshot. Every change is waited for as an event,
// never asked for. The last line of stdout is a report in JSON.

import { Readable } from 'node:stream'
import { Xapi } from 'xen-api'

const options = JSON.parse(process.argv[2])
const xapi = new Xapi({ url: options.url, transport: options.transport, debounce: 20 })
const report = { steps: [] }

// Resolves once the cached object satisfies the condition; events keep the cache true.
function until(what, condition) {
  return new Promise((resolve, reject) => {
    const giveUp = setTimeout(() => reject(new Error(`no event told that ${what}`)), 60e3)
    function check() {
      const found = condition()
      if (found) {
        clearTimeout(giveUp)
        for (const kind of ['add', 'update', 'remove']) xapi.objects.removeListener(kind, check)
        resolve(found)
      }
    }
    for (const kind of ['add', 'update', 'remove']) xapi.objects.on(kind, check)
    check()
  })
}

const vm = () => xapi.getObjectByUuid(options.vm)
const disks = machine =>
  Object.fromEntries(
    machine.$VBDs.filter(vbd => vbd?.type === 'Disk').map(vbd => [vbd.userdevice, vbd.$VDI.uuid])
  )

async function step(name, work) {
  const result = await work()
  report.steps.push(name)
  return result
}

async function main() {
  await xapi.connect()
  await xapi.objectsFetched
  report.pool = xapi.pool.uuid
  report.before = disks(vm())
  const label = vm().name_label

  const snapshotRef = await step('snapshot', () =>
    xapi.callAsync('VM.snapshot', vm().$ref, `[XO] ${label}`, [])
  )
  const snapshot = await xapi.barrier(snapshotRef)
  await xapi.call('VM.set_is_a_template', snapshotRef, false)
  await until('the snapshot is no template', () => !xapi.getObjectByRef(snapshotRef).is_a_template)
  report.snapshot = { of: snapshot.$snapshot_of.uuid, label: snapshot.name_label, disks: disks(snapshot) }

  await step('change', async () => {
    await put(vm().$VBDs[0].$VDI.$ref, 'raw', Buffer.alloc(1 << 20, 'overwritten'))
    await vm().set_name_label('changed')
  })
  await until('the VM has another name', () => vm().name_label === 'changed')

  report.result = await step('revert', () => xapi.callAsync('VM.revert', snapshotRef))
  await until('the VM has its name again', () => vm().name_label === label)
  await xapi.barrier()
  report.after = disks(vm())

  await step('update', () => vm().update_other_config({ first: '1', second: '\u20ac' }))
  await until('a map has other entries', () => vm().other_config.second === '\u20ac')
  await vm().update_other_config('first', null)
  await until('an entry is gone', () => !('first' in vm().other_config))

  const vdi = xapi.getObjectByUuid(report.after[0])
  await step('transfer', () => transfer(vdi))

  const snapshotDisks = snapshot.$VBDs.map(vbd => vbd.$VDI)
  await step('destroy', async () => {
    await xapi.call('VM.destroy', snapshotRef)
    for (const disk of snapshotDisks) await xapi.callAsync('VDI.destroy', disk.$ref)
  })
  await until('the snapshot is gone', () => xapi.getObjectByRef(snapshotRef, null) === null)
  for (const disk of snapshotDisks) {
    await until('its disk is gone', () => xapi.getObjectByRef(disk.$ref, null) === null)
  }

  report.error = await xapi.callAsync('VM.revert', snapshotRef).catch(error => [error.code, ...error.params])
  // A collector that ended in between leaves its task for whoever wants to look.
  const tasks = () => Object.values(xapi.objects.indexes.type.task ?? {})
  const ours = () => tasks().filter(task => task.name_label !== 'Garbage Collection')
  await until('every task of ours is gone', () => ours().length === 0)
  await xapi.disconnect()
}

// Exports a disk as a VHD, and imports it into a new one of the same size.
async function transfer(vdi) {
  const query = { vdi: vdi.$ref, format: 'vhd' }
  const response = await xapi.getResource('/export_raw_vdi/', { query })
  const exported = Buffer.from(await response.body.arrayBuffer())
  await response.task

  const { virtual_size, SR } = vdi
  const ref = await xapi.call('VDI.create', {
    name_label: 'imported', name_description: '', SR, virtual_size, type: 'user',
    sharable: false, read_only: false, other_config: {}, xenstore_data: {}, sm_config: {}, tags: [],
  })
  await put(ref, 'vhd', exported)
  report.imported = (await xapi.barrier(ref)).uuid
  report.exported = exported.length
}

// Imports into a disk. A stream makes the client look for a redirect first.
function put(vdi, format, content) {
  const stream = Readable.from([content])
  stream.length = content.length
  return xapi.putResource(stream, '/import_raw_vdi/', { query: { vdi, format } })
}

main().then(
  () => console.log(JSON.stringify(report)),
  error => {
    console.error(error, JSON.stringify(report))
    process.exit(1)
  }
)
