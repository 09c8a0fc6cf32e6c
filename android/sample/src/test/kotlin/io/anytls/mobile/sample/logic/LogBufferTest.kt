package io.anytls.mobile.sample.logic

import io.anytls.mobile.LogLevel
import io.anytls.mobile.LogRecord
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import java.time.Instant
import java.time.ZoneOffset

class LogBufferTest {
    private val buffer = LogBuffer(maxChars = 1000)
    private val format = LogFormat(ZoneOffset.UTC)

    @Test
    fun old_lines_make_room_for_new_ones() {
        for (i in 1..100) buffer.log(listOf(record("line $i")), 0u)
        val lines = buffer.records(LogLevel.TRACE).map { it.line }

        assertEquals("line 100", lines.last())
        assertTrue("${lines.size}", lines.size in 10..30)
        assertEquals((101 - lines.size..100).map { "line $it" }, lines)
    }

    @Test
    fun a_line_longer_than_the_buffer_is_cut_and_stays() {
        buffer.log(listOf(record("x".repeat(5000))), 0u)

        assertEquals(500, buffer.records(LogLevel.TRACE).single().line.length)
    }

    @Test
    fun a_level_hides_what_is_more_talkative() {
        val levels = listOf(LogLevel.ERROR, LogLevel.INFO, LogLevel.DEBUG)
        buffer.log(levels.map { record("$it", it) }, 0u)

        assertEquals(listOf("ERROR", "INFO"), buffer.records(LogLevel.INFO).map { it.line })
        assertEquals(emptyList<LogRecord>(), buffer.records(LogLevel.OFF))
    }

    @Test
    fun dropped_lines_are_told_of_where_they_are_missing() {
        buffer.log(listOf(record("before")), 0u)
        buffer.log(listOf(record("after")), 7u)

        assertEquals(listOf("before", Texts.dropped(7u), "after"), buffer.records(LogLevel.INFO).map { it.line })
    }

    @Test
    fun whoever_watches_hears_of_every_change() {
        val before = buffer.version.value
        buffer.log(listOf(record("new")), 0u)
        val after = buffer.version.value
        buffer.clear()

        assertNotEquals(before, after)
        assertNotEquals(after, buffer.version.value)
        assertEquals(emptyList<LogRecord>(), buffer.records(LogLevel.TRACE))
    }

    @Test
    fun a_line_says_when_how_grave_and_where() {
        assertEquals("12:30:01.250 INFO anytls_mobile::client: session 1", format.line(record("session 1")))
    }

    @Test
    fun the_tail_has_the_newest_lines_that_fit() {
        val records = (1..50).map { record("line $it") }
        val line = format.line(records.last())

        assertEquals(format.text(records.takeLast(2)), format.tail(records, 2 * (line.length + 1)))
        assertEquals(format.text(records), format.tail(records, 1_000_000))
        assertEquals("", format.tail(records, 3))
    }

    private fun record(line: String, level: LogLevel = LogLevel.INFO) =
        LogRecord(Instant.parse("2026-01-02T12:30:01.250Z"), level, "anytls_mobile::client", line)
}
