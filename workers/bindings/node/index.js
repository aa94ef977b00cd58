'use strict';

const errors = require('./lib/errors');

module.exports = { Client: require('./lib/client').Client, ...errors.public };
