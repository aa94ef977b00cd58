/* Everything that was measured, every round of it, as JSON. The strings in it
 * are our own or plain words of the system's; they are escaped all the same. */
#include "tools/bench/bench.h"

static void put_string(FILE *f, const char *s)
{
    fputc('"', f);
    for (; *s != '\0'; s++) {
        if (*s == '"' || *s == '\\')
            fprintf(f, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            fprintf(f, "\\u%04x", (unsigned)*s);
        else
            fputc(*s, f);
    }
    fputc('"', f);
}

static void put_field(FILE *f, const char *name, const char *value)
{
    fprintf(f, "\"%s\":", name);
    put_string(f, value);
}

static void put_machine(FILE *f, const struct machine *m)
{
    fputs("{", f);
    put_field(f, "date", m->date);
    fputc(',', f);
    put_field(f, "kernel", m->kernel);
    fputc(',', f);
    put_field(f, "cpu", m->cpu);
    fputc(',', f);
    put_field(f, "redis", m->redis);
    fputc(',', f);
    put_field(f, "hiredis", m->hiredis);
    fputc(',', f);
    put_field(f, "proxy", m->proxy);
    fprintf(f, ",\"cpus\":%u,\"memory_mib\":%llu,\"msg_max\":%ld}", m->cpus,
            (unsigned long long)m->memory_mib, m->msg_max);
}

static void put_cell(FILE *f, const struct cell *c)
{
    fputs("{", f);
    put_field(f, "contestant", contestants[c->load.contestant].name);
    fprintf(f,
            ",\"workers\":%u,\"batch\":%u,\"window\":%u,\"value\":%u,"
            "\"set_percent\":%u,\"rate\":%.3f,\"measure_s\":%.3f,\"rounds\":[",
            c->load.workers, c->load.batch, c->load.window, c->load.value,
            c->load.set_percent, c->load.rate, c->load.measure_s);
    for (unsigned i = 0; i < c->rounds; i++) {
        fputs(i > 0 ? ",{" : "{", f);
        for (int k = 0; k < FIGURE_COUNT; k++)
            fprintf(f, "%s\"%s\":%.3f", k > 0 ? "," : "", figure_names[k].name,
                    c->round[i].value[k]);
        fputs("}", f);
    }
    fputs("]}", f);
}

static void put_shorts(FILE *f, const struct short_results *s)
{
    fputs("[", f);
    for (size_t i = 0; i < s->count; i++) {
        const struct short_result *r = &s->rows[i];
        fputs(i > 0 ? ",{" : "{", f);
        put_field(f, "program", r->program);
        fputc(',', f);
        put_field(f, "security", r->security);
        fprintf(f,
                ",\"runs\":%u,\"p50_us\":%.1f,\"p99_us\":%.1f,\"mean_us\":%.1f,"
                "\"cpu_us\":%.1f}",
                r->runs, r->p50_us, r->p99_us, r->mean_us, r->cpu_us);
    }
    fputs("]", f);
}

void report_json(FILE *f, const struct results *r, const struct machine *m)
{
    fputs("{\"machine\":", f);
    put_machine(f, m);
    fprintf(f, ",\"seconds\":%.1f,\"tables\":[", r->seconds);
    for (size_t t = 0; t < r->tables_count; t++) {
        fputs(t > 0 ? ",\n{" : "\n{", f);
        put_field(f, "title", r->tables[t].title);
        fputs(",\"cells\":[", f);
        bool first = true;
        for (size_t i = 0; i < r->tables[t].count; i++) {
            if (r->tables[t].cells[i].rounds == 0)
                continue;
            fputs(first ? "\n" : ",\n", f);
            put_cell(f, &r->tables[t].cells[i]);
            first = false;
        }
        fputs("]}", f);
    }
    fputs("],\n\"redis_benchmark\":[", f);
    for (unsigned i = 0; i < r->redis_benchmark_rounds; i++)
        fprintf(f, "%s%.1f", i > 0 ? "," : "", r->redis_benchmark[i]);
    fputs("],\n\"short\":", f);
    put_shorts(f, &r->shorts);
    fputs("}\n", f);
}
