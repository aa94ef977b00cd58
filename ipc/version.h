/* The version of everything that is built from this tree together. */
#ifndef IPC_VERSION_H
#define IPC_VERSION_H

#define PROJECT_VERSION "1.0.0"

#endif
