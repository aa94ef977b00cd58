/*
 * Which of a cluster's 16384 slots a key is in: CRC16 (XMODEM) of its hash tag,
 * or of all of it. The tag is what stands between the first '{' and the first
 * '}' behind it, unless that is nothing: {user1}:name and {user1}:age share a
 * slot.
 *
 * https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
 */
#ifndef MANAGER_SLOT_H
#define MANAGER_SLOT_H

#include <stddef.h>
#include <stdint.h>

#define SLOTS 16384

uint16_t slot_crc16(const char *data, size_t len);

uint16_t slot_of_key(const char *key, size_t len);

#endif
