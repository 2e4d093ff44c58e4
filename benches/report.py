"""A run's figures as Markdown: every cell, then one line a proxy as pgring's documents have it."""

import statistics

BASELINE = "pgbouncer"

# What pgring with three shards is held to: CPU a transaction over PgBouncer's in the same
# round, and KiB RSS an idle client.
SUBJECT = "pgring3"
AIMS = {"simple": 1.2, "prepared": 1.0}
AIM_IDLE_KIB = 8

NAMES = {
    "direct": "no proxy",
    "haproxy": "HAProxy, TCP mode",
    "pgbouncer": "PgBouncer",
    "pgring1": "pgring, one shard",
    "pgring3": "pgring, three shards by key",
}


def text(results):
    parts = [heading(results), cells_table(results), summary_table(results)]
    if results["memory"]:
        parts.append(memory_table(results))
    parts.append(aims(results))
    if results["failures"]:
        parts.append("FAILED:\n" + "\n".join(f"- {failure}" for failure in results["failures"]))
    return "\n\n".join(part for part in parts if part)


def heading(results):
    machine, options = results["machine"], results["options"]
    versions = [machine[name] for name in ("postgresql", "pgbouncer", "haproxy", "pgring") if machine[name]]
    lines = [
        f"{machine['when']}, {machine['cores']} cores, kernel {machine['kernel']}; {'; '.join(versions)}.",
        f"pgbench -S, scale {options['scale']}, medians of {options['rounds']} interleaved rounds of"
        f" {options['seconds']} s. Others used {machine['busy_before']:.0%} of the machine before the first."
        " CPU is the proxy's own, user + system. Only ratios within this run mean anything.",
    ]
    if "pgbouncer" in options["only"] and "prepared" in options["modes"]:
        lines.append(
            "PgBouncer pools transactions under the simple protocol and sessions under the prepared one:"
            " before 1.21 it knows no protocol-level prepared statements under transaction pooling.")
    if by_shard := results["transactions_by_shard"]:
        shares = ", ".join(f"{count / sum(by_shard):.0%}" for count in by_shard)
        lines.append(f"The three shards ran {shares} of the transactions.")
    return "\n".join(lines)


def cells_table(results):
    rows = []
    for mode, clients, proxy in cases(results):
        rows.append((
            mode, clients, NAMES[proxy],
            f"{median(results, proxy, mode, clients, 'transactions_per_second'):,.0f}",
            number(median(results, proxy, mode, clients, "cpu_us"), ".1f"),
            number(median(results, proxy, mode, clients, "latency_ms"), ".3f"),
            spread(ratios(results, proxy, mode, clients)),
        ))
    return table(
        ("protocol", "clients", "through", "transactions/s", "CPU us a transaction", "latency ms",
         "CPU over PgBouncer's (least to most)"), rows)


def summary_table(results):
    columns = list(dict.fromkeys((mode, clients) for mode, clients, _ in cases(results)))
    rows = []
    for proxy in results["options"]["only"]:
        row = [NAMES[proxy]]
        for mode, clients in columns:
            tps = median(results, proxy, mode, clients, "transactions_per_second")
            cpu = median(results, proxy, mode, clients, "cpu_us")
            row.append("" if tps is None else f"{number(cpu, '.0f')} ({tps / 1e3:.1f} k)".strip())
        idle = [memory["kib_a_client_logged_in"] for memory in results["memory"] if memory["proxy"] == proxy]
        streams = [stream["cpu_ms_per_mb"] for stream in results["streams"]
                   if stream["proxy"] == proxy and stream["cpu_ms_per_mb"] is not None]
        row.append(f"{idle[0]:.1f}" if idle else "")
        row.append(f"{statistics.median(streams):.1f}" if streams else "")
        rows.append(row)
    return "CPU microseconds a transaction (transactions/s):\n\n" + table(
        ("", *(f"{mode}, {clients}" for mode, clients in columns), "KiB an idle client", "ms CPU per MB streamed"),
        rows)


def memory_table(results):
    clients = results["memory"][0]["clients"]
    return table(
        ("", "KiB RSS, no clients", f"{clients:,} logged in", "after a statement of each", "KiB a client", "after a statement"),
        [(NAMES[memory["proxy"]], f"{memory['rss_kib']:,}", f"{memory['rss_kib_logged_in']:,}",
          f"{memory['rss_kib_after_a_statement']:,}", f"{memory['kib_a_client_logged_in']:.1f}",
          f"{memory['kib_a_client_after_a_statement']:.1f}") for memory in results["memory"]])


def aims(results):
    lines = []
    for mode, clients, proxy in cases(results):
        measured = ratios(results, proxy, mode, clients) if proxy == SUBJECT else []
        if measured:
            lines.append(verdict(
                f"CPU over PgBouncer's, {mode}, {clients} clients", statistics.median(measured), AIMS[mode], ".2f"))
    for memory in results["memory"]:
        if memory["proxy"] == SUBJECT:
            lines.append(verdict("KiB an idle client", memory["kib_a_client_logged_in"], AIM_IDLE_KIB, ".1f"))
    return f"Aims ({NAMES[SUBJECT]}):\n" + "\n".join(lines) if lines else ""


def verdict(what, measured, aim, form):
    return f"- {what}: {measured:{form}}, aim at most {aim}: {'met' if measured <= aim else 'MISSED'}"


def cases(results):
    """Each (mode, clients, proxy) that has figures, in the order asked for."""
    options = results["options"]
    have = {(cell["mode"], cell["clients"], cell["proxy"]) for cell in results["cells"]}
    return [case for mode in options["modes"] for clients in options["clients"] for proxy in options["only"]
            if (case := (mode, clients, proxy)) in have]


def figures(results, proxy, mode, clients, what):
    """Round → figure."""
    return {cell["round"]: cell[what] for cell in results["cells"]
            if (cell["proxy"], cell["mode"], cell["clients"]) == (proxy, mode, clients) and cell[what] is not None}


def median(*case):
    values = figures(*case).values()
    return statistics.median(values) if values else None


def ratios(results, proxy, mode, clients):
    """Taken within each round, so that what slows a whole round down is not in them."""
    own = figures(results, proxy, mode, clients, "cpu_us")
    baseline = figures(results, BASELINE, mode, clients, "cpu_us")
    return [own[number] / baseline[number] for number in own if baseline.get(number)]


def spread(values):
    if not values:
        return ""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def number(value, form):
    return "" if value is None else f"{value:{form}}"


def table(header, rows):
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
