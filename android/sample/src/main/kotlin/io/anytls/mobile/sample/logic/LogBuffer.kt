package io.anytls.mobile.sample.logic

import io.anytls.mobile.LogLevel
import io.anytls.mobile.LogRecord
import io.anytls.mobile.LogSink
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import java.time.Instant
import java.time.ZoneId
import java.time.format.DateTimeFormatter

/** The last lines of the core's log, up to a number of characters; any thread. */
class LogBuffer(private val maxChars: Int = MAX_CHARS) : LogSink {
    private val records = ArrayDeque<LogRecord>() // guarded by itself, as is the next
    private var chars = 0
    private val changes = MutableStateFlow(0L)

    /** Another number whenever [records] are others. */
    val version: StateFlow<Long> = changes.asStateFlow()

    override fun log(batch: List<LogRecord>, dropped: ULong) {
        synchronized(records) {
            val time = batch.firstOrNull()?.time ?: Instant.now()
            if (dropped > 0u) add(LogRecord(time, LogLevel.WARN, "", Texts.dropped(dropped)))
            batch.forEach(::add)
            changes.value++
        }
    }

    fun clear() {
        synchronized(records) {
            records.clear()
            chars = 0
            changes.value++
        }
    }

    /** Oldest first, without those that are more talkative than [level]. */
    fun records(level: LogLevel): List<LogRecord> = synchronized(records) { records.filter { it.level <= level } }

    private fun add(record: LogRecord) {
        // A single line longer than everything would push everything out, itself included.
        val bounded = record.copy(line = record.line.take(maxChars / 2))
        records.addLast(bounded)
        chars += bounded.size
        while (chars > maxChars) chars -= records.removeFirst().size
    }

    private val LogRecord.size get() = line.length + target.length + HEAD_CHARS

    private companion object {
        /** An hour or so at the usual level, and half a megabyte at most. */
        const val MAX_CHARS = 250_000

        /** What time, level and the record itself take, about. */
        const val HEAD_CHARS = 32
    }
}

/** The log as text, a line each: `12:30:01.250 INFO anytls_mobile::client: ..`. */
class LogFormat(zone: ZoneId) {
    private val clock = DateTimeFormatter.ofPattern("HH:mm:ss.SSS").withZone(zone)

    fun line(record: LogRecord): String {
        val target = if (record.target.isEmpty()) "" else "${record.target}: "
        return "${clock.format(record.time)} ${record.level} $target${record.line}"
    }

    fun text(records: List<LogRecord>): String = records.joinToString("\n", transform = ::line)

    /** The newest lines that fit. */
    fun tail(records: List<LogRecord>, maxChars: Int): String {
        var room = maxChars
        val lines = records.asReversed().asSequence().map(::line).takeWhile {
            room -= it.length + 1
            room >= 0
        }
        return lines.toList().asReversed().joinToString("\n")
    }
}
